// The bell: the count of what is unread, and the panel with the notifications.
import { archiveOf } from "./archive.js";
import { announce, byId } from "./dom.js";
import { archived, everything, filterChips } from "./filters.js";
import { muteSwitches } from "./mutes.js";
import { notesList } from "./notes.js";
import { clearToasts, failed, toast } from "./toast.js";
import { words } from "./words.js";

const title = document.title;

/**
 * @param {{client: object, who: object, open: (url: string) => void}} options who: the session; open follows a notification's url
 * @returns {() => void} opens it
 */
export function bell({ client, who, open }) {
  const { inbox } = client;
  const button = byId("bell"), panel = byId("panel"), list = byId("notes"), readAll = byId("read-all");

  const isOpen = () => !panel.hidden;
  const mark = async (name, target) => {
    try {
      await inbox[name](target);
      return true;
    } catch (error) {
      failed("That did not reach Allim", error);
      return false;
    }
  };
  const renderNotes = notesList({ mark, open: (item) => openNote(item) });
  const archive = archiveOf({ client, who, changed: () => render() });
  const filters = filterChips((filter) => {
    archive.show(filter === archived);
    render();
  });
  // Opening the panel is seeing everything; reading is opening one. After a refusal it is not asked again until the panel
  // is opened anew: the count that comes back would ask forever.
  let seeing = false, refused = false;
  const markSeen = async () => {
    if (seeing || refused || !isOpen() || document.visibilityState !== "visible" || !(inbox.badge?.unseen > 0)) return;
    seeing = true;
    refused = !(await mark("seen", { all: true }));
    seeing = false;
    if (!refused) markSeen(); // for what came meanwhile
  };

  function show() {
    clearToasts();
    panel.hidden = false;
    button.setAttribute("aria-expanded", "true");
    byId("panel-title").focus();
    refused = false;
    markSeen();
  }

  function hide({ focus = true } = {}) {
    if (!isOpen()) return;
    panel.hidden = true;
    button.setAttribute("aria-expanded", "false");
    if (focus) button.focus();
  }

  function renderBadge() {
    const { unread = 0, unseen = 0 } = inbox.badge ?? {};
    const badge = byId("badge");
    badge.hidden = unread === 0;
    badge.textContent = unread > 99 ? "99+" : String(unread);
    badge.dataset.unseen = unseen;
    filters.count(inbox.badge ?? {});
    badge.toggleAttribute("data-wide", unread > 99);
    button.setAttribute("aria-label", unread === 0 ? "Notifications, none unread" : `Notifications, ${unread} unread`);
    document.title = unread === 0 ? title : `(${unread}) ${title}`;
    readAll.disabled = unread === 0;
    if (button.dataset.unread !== undefined && button.dataset.unread !== String(unread)) announce(unread === 1 ? "1 unread notification" : `${unread} unread notifications`);
    button.dataset.unread = unread;
  }

  function render() {
    const { now } = filters;
    const all = now === archived ? archive.items : (inbox.items ?? []).filter((item) => now === everything || item.category === now);
    renderNotes(all);
    const waiting = !client.session; // no connection yet, so nobody knows what there is
    const older = now !== archived && !waiting && Boolean(inbox.hasMore);
    byId("no-notes").hidden = all.length > 0 || waiting || older;
    byId("no-notes-title").textContent = now === archived ? "Nothing archived" : "Nothing to read";
    byId("no-notes-text").textContent = now === archived ? "What you archive stays here until you delete it." : "Orders that colleagues change, mentions, news and questions come in here, as they happen.";
    byId("wait-notes").hidden = all.length > 0 || !waiting;
    byId("older").hidden = !older;
  }

  function openNote(item) {
    if (!item.read) mark("read", item.id);
    const url = item.data?.url;
    if (typeof url !== "string") return;
    hide({ focus: false });
    open(url);
  }

  button.addEventListener("click", () => (isOpen() ? hide() : show()));
  byId("panel-close").addEventListener("click", () => hide());
  readAll.addEventListener("click", () => { mark("read", { all: true }); byId("panel-title").focus(); });
  byId("older").addEventListener("click", async () => {
    const last = list.lastElementChild;
    try {
      await inbox.more(20);
      (last?.nextElementSibling?.querySelector("button") ?? byId("panel-title")).focus();
    } catch (error) {
      failed("Older notifications did not come", error);
    }
  });
  document.addEventListener("keydown", (e) => { if (e.key === "Escape" && isOpen() && !document.querySelector("dialog[open]")) hide(); });
  document.addEventListener("pointerdown", (e) => { if (isOpen() && !panel.contains(e.target) && !button.contains(e.target) && !byId("toasts").contains(e.target)) hide({ focus: false }); });
  document.addEventListener("visibilitychange", markSeen);

  inbox.on("change", () => { render(); renderBadge(); markSeen(); });
  client.on("notification", (item) => {
    if (isOpen()) return;
    const { title: heading, text } = words(item);
    toast(heading, { text, action: { label: "Show", run: show } });
    announce(`${heading}. ${inbox.badge?.unread ?? 0} unread.`);
    button.classList.remove("rings");
    void button.offsetWidth; // so that a second one rings again
    button.classList.add("rings");
  });
  muteSwitches({ client, changed: filters.mute });
  render();
  renderBadge();
  return show;
}
