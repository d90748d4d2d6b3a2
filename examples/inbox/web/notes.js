// The list of notifications in the bell's panel: one line each, with what can be done to it.
import { byId, el, icon, setTime } from "./dom.js";
import { drawing } from "./categories.js";
import { toast } from "./toast.js";
import { words } from "./words.js";

/**
 * @param {{mark: (name: string, id: string) => Promise<boolean>, open: (item: object) => void}} actions
 * @returns {(items: object[]) => void} shows these, newest first
 */
export function notesList({ mark, open }) {
  const list = byId("notes");
  const views = new Map(); // id → the parts of its list item
  list.addEventListener("keydown", (e) => walk(e, list));

  function render(items) {
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
    list.hidden = items.length === 0;
  }

  function newNote(id) {
    const view = { kind: el("span", { class: "note-kind" }), title: el("b"), text: el("span"), time: el("time"), state: el("span", { class: "unseen" }) };
    view.main = el("button", { class: "note-main", type: "button", "data-testid": "notification-open", onclick: () => open(view.item) },
      view.kind, el("span", { class: "note-words" }, view.state, view.title, view.text, view.time));
    view.toggle = tool("toggle-read", () => mark(view.item.read ? "unread" : "read", id));
    view.archive = tool("archive", () => archive(view));
    view.remove = tool("delete", () => mark("delete", id));
    view.li = el("li", { class: "note", "data-testid": "notification", "data-id": id }, view.main, el("div", { class: "note-tools" }, view.toggle, view.archive, view.remove));
    return view;
  }

  const tool = (name, onclick) => el("button", { class: "icon-button small", type: "button", "data-testid": name, onclick });

  function fill(view, item) {
    const { title, text } = words(item);
    const was = view.item;
    view.item = { ...item };
    view.title.textContent = title;
    view.text.textContent = text;
    view.text.hidden = text === "";
    setTime(view.time, item.time);
    view.li.classList.toggle("unread", !item.read);
    view.li.dataset.read = String(Boolean(item.read));
    view.state.textContent = item.read ? "" : "Unread. ";
    if (!was) {
      view.kind.replaceChildren(icon(drawing(item.category)));
      dress(view.remove, "Delete", "trash", title);
    }
    if (was?.read !== item.read) dress(view.toggle, item.read ? "Mark unread" : "Mark read", item.read ? "unread" : "read", title);
    if (was?.archived !== item.archived) dress(view.archive, item.archived ? "Move back" : "Archive", item.archived ? "back" : "archive", title);
  }

  async function archive(view) {
    const { id, archived } = view.item;
    if (archived) return mark("unarchive", id);
    if (await mark("archive", id)) toast("Archived", { text: words(view.item).title, action: { label: "Undo", run: () => mark("unarchive", id) } });
  }

  return render;
}

function dress(button, label, drawn, title) {
  button.title = label;
  button.setAttribute("aria-label", `${label}: ${title}`);
  button.replaceChildren(icon(drawn));
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
