// Short words at the corner of the page: what failed, what just came, what can be undone.
import { byId, el, icon } from "./dom.js";

const most = 3; // at once; the oldest goes

/**
 * @param {string} title
 * @param {{text?: string, bad?: boolean, action?: {label: string, run: () => void}}} [options] bad: it stays until closed and
 *   is announced at once
 */
export function toast(title, { text = "", bad = false, action } = {}) {
  const words = el("p", {}, title);
  if (text) words.append(el("small", {}, text));
  const box = el("div", { class: bad ? "toast bad" : "toast", role: bad ? "alert" : null, "data-testid": bad ? "toast-error" : "toast" }, words);
  const close = () => box.remove();
  if (action) box.append(el("button", { class: "quiet", type: "button", onclick: () => { close(); action.run(); } }, action.label));
  box.append(el("button", { class: "icon-button small", type: "button", "aria-label": "Dismiss", onclick: close }, icon("close")));

  const all = byId("toasts");
  all.append(box);
  while (all.children.length > most) all.firstElementChild.remove();
  if (!bad) closeWhenUnused(box, close, 6000);
}

// Somebody who points at it or stands in it with the keyboard is still reading.
function closeWhenUnused(box, close, after) {
  const tryClose = () => {
    if (box.matches(":hover, :focus-within")) setTimeout(tryClose, 1000);
    else close();
  };
  setTimeout(tryClose, after);
}

/** Takes away what just came: it can be seen elsewhere now. What failed stays. */
export function clearToasts() {
  for (const box of byId("toasts").querySelectorAll(".toast:not(.bad)")) box.remove();
}

/** Shows what an attempt failed with. */
export function failed(what, error) {
  toast(what, { text: error?.message ?? String(error), bad: true });
}
