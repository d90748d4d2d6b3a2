// The bell: the count of what is unread, and the panel with the notifications.
import { announce, byId, el, icon, setTime } from "./dom.js";
import { clearToasts, failed, toast } from "./toast.js";

const title = document.title;
const kinds = { order: "box", mention: "at" };

/** @param {{client: object, open: (url: string) => void}} options open follows a notification's url */
export function bell({ client, open }) {
  const { inbox } = client;
  const button = byId("bell"), panel = byId("panel"), list = byId("notes"), older = byId("older"), readAll = byId("read-all");
  const views = new Map(); // id → the parts of its list item

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
    badge.toggleAttribute("data-wide", unread > 99);
    button.setAttribute("aria-label", unread === 0 ? "Notifications, none unread" : `Notifications, ${unread} unread`);
    document.title = unread === 0 ? title : `(${unread}) ${title}`;
    readAll.disabled = unread === 0;
    if (button.dataset.unread !== undefined && button.dataset.unread !== String(unread)) announce(unread === 1 ? "1 unread notification" : `${unread} unread notifications`);
    button.dataset.unread = unread;
  }

  function render() {
    const items = (inbox.items ?? []).filter((item) => !item.archived);
    const present = new Set(items.map((item) => item.id));
    for (const [id, view] of views) {
      if (present.has(id)) continue;
      const next = view.li.nextElementSibling ?? view.li.previousElementSibling;
      if (view.li.contains(document.activeElement)) (next?.querySelector("button") ?? byId("panel-title")).focus();
      view.li.remove();
      views.delete(id);
    }
    // Only what stands in the wrong place is moved: an element that moves loses the focus.
    let place = list.firstElementChild;
    for (const item of items) {
      if (!views.has(item.id)) views.set(item.id, newNote(item.id));
      const view = views.get(item.id);
      fill(view, item);
      if (view.li === place) place = place.nextElementSibling;
      else list.insertBefore(view.li, place);
    }
    const waiting = !client.session; // no connection yet, so nobody knows what there is
    byId("no-notes").hidden = items.length > 0 || waiting || Boolean(inbox.hasMore);
    byId("wait-notes").hidden = items.length > 0 || !waiting;
    list.hidden = items.length === 0;
    older.hidden = waiting || !inbox.hasMore;
  }

  function newNote(id) {
    const view = { kind: el("span", { class: "note-kind" }), title: el("b"), text: el("span"), time: el("time"), state: el("span", { class: "unseen" }) };
    view.main = el("button", { class: "note-main", type: "button", "data-testid": "notification-open", onclick: () => openNote(view) },
      view.kind, el("span", { class: "note-words" }, view.state, view.title, view.text, view.time));
    view.toggle = el("button", { class: "icon-button small", type: "button", "data-testid": "toggle-read", onclick: () => mark(view.item.read ? "unread" : "read", id) });
    view.archive = el("button", { class: "icon-button small", type: "button", title: "Archive", "data-testid": "archive", onclick: () => archive(view) }, icon("archive"));
    view.li = el("li", { class: "note", "data-testid": "notification", "data-id": id }, view.main, el("div", { class: "note-tools" }, view.toggle, view.archive));
    return view;
  }

  function fill(view, item) {
    const { title: heading, text } = words(item);
    const first = view.item === undefined;
    const turned = first || view.item.read !== item.read;
    view.item = { ...item };
    view.title.textContent = heading;
    view.text.textContent = text;
    view.text.hidden = text === "";
    if (first) {
      view.kind.replaceChildren(icon(kinds[item.category] ?? "bell"));
      view.archive.setAttribute("aria-label", `Archive: ${heading}`);
    }
    setTime(view.time, item.time);
    view.li.classList.toggle("unread", !item.read);
    view.li.dataset.read = String(Boolean(item.read));
    view.state.textContent = item.read ? "" : "Unread. ";
    if (turned) {
      const label = item.read ? "Mark unread" : "Mark read";
      view.toggle.title = label;
      view.toggle.setAttribute("aria-label", `${label}: ${heading}`);
      view.toggle.replaceChildren(icon(item.read ? "unread" : "read"));
    }
  }

  function openNote(view) {
    const { item } = view;
    if (!item.read) mark("read", item.id);
    const url = item.data?.url;
    if (typeof url !== "string") return;
    hide({ focus: false });
    open(url);
  }

  async function archive(view) {
    const { id } = view.item;
    if (await mark("archive", id)) toast("Archived", { text: words(view.item).title, action: { label: "Undo", run: () => mark("unarchive", id) } });
  }

  button.addEventListener("click", () => (isOpen() ? hide() : show()));
  byId("panel-close").addEventListener("click", () => hide());
  readAll.addEventListener("click", () => { mark("read", { all: true }); byId("panel-title").focus(); });
  older.addEventListener("click", async () => {
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
  list.addEventListener("keydown", (e) => walk(e, list));

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
  render();
  renderBadge();
}

// Arrow keys go from one notification to the next, Home and End to the ends.
function walk(event, list) {
  const mains = [...list.querySelectorAll(".note-main")];
  const at = mains.findIndex((main) => main.parentElement.contains(document.activeElement));
  const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: mains.length - 1 }[event.key];
  if (to === undefined || !mains[to]) return;
  event.preventDefault();
  mains[to].focus();
}

// A publisher may send any JSON: title and body are the conventional names, not a promise.
function words({ category, data }) {
  const text = (value) => (typeof value === "string" ? value : "");
  if (data === null || typeof data !== "object") return { title: data == null ? category || "Notification" : String(data), text: "" };
  return { title: text(data.title) || category || "Notification", text: text(data.body) };
}
