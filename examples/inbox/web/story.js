// What happened, here and elsewhere, newest first: the frames that this page gets, in plain words.
import { byId, el, icon, setTime } from "./dom.js";
import { categories } from "./categories.js";
import { words } from "./words.js";

const most = 4; // lines: as many as reach.css leaves room for, so that the page below stays where it is

const marks = {
  read: ["read", "Read"], unread: ["unread", "Marked unread"], archive: ["archive", "Archived"], unarchive: ["back", "Moved back"], delete: ["trash", "Deleted"], seen: ["eye", "Seen"],
};

/** Tells of the person's inbox from now on. Returns the function that adds a line of somebody else. */
export function story({ client }) {
  const list = byId("story");
  const titles = new Map(); // id → title, of what this page has seen; it is as long as the page's list

  function add({ drawing, text, time = new Date() }) {
    const when = el("time");
    setTime(when, time);
    const line = el("li", { "data-testid": "story-line" }, icon(drawing), el("span", {}, text), when);
    const older = [...list.children].find((other) => other.querySelector("time").dateTime <= when.dateTime);
    list.insertBefore(line, older ?? null);
    while (list.children.length > most) list.lastElementChild.remove();
    byId("no-story").hidden = true;
  }

  const remember = () => {
    for (const item of client.inbox.items) titles.set(item.id, words(item).title);
    for (const id of titles.keys()) {
      if (titles.size <= 1000) break;
      titles.delete(id);
    }
  };
  const named = (ids) => (ids.length === 1 && titles.has(ids[0]) ? `“${titles.get(ids[0])}”` : `${ids.length} ${ids.length === 1 ? "notification" : "notifications"}`);
  const where = (frame) => (frame.mine ? "here" : "in another window of yours");

  client.inbox.on("change", remember);
  client.on("frame", (frame) => {
    if (!frame.topic || frame.ref !== undefined) return;
    if (frame.type === "notification") return add({ drawing: "bell", text: `Came in: “${words(frame).title}”`, time: frame.time });
    if (frame.type === "preferences") return add({ drawing: "mute", text: `${muted(frame.mute)} ${where(frame)}` });
    for (const [name, ids] of Object.entries(frame.change ?? {})) {
      if (marks[name]) add({ drawing: marks[name][0], text: `${marks[name][1]} ${where(frame)}: ${named(ids)}` });
    }
  });
  return add;
}

function muted(mute) {
  if (mute.length === 0) return "Let everything in";
  return `Muted ${mute.map((category) => categories[category]?.name ?? category).join(" and ").toLowerCase()}`;
}
