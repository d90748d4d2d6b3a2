// The few helpers with which the page makes elements. Text is always set as text, never as markup.

/** The element with this id. */
export const byId = (id) => document.getElementById(id);

/** Makes an element: attributes by name, `on…` as listeners, children as nodes or text. */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

/** Makes one of the drawings at the top of index.html; it is decoration, the words stand beside it. */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
const steps = [[60, "second"], [60, "minute"], [24, "hour"], [7, "day"], [Infinity, "week"]];

/** "3 minutes ago". A clock that is a little behind the server's says "just now" too. */
export function ago(time, now = Date.now()) {
  let span = (now - new Date(time).getTime()) / 1000;
  if (!Number.isFinite(span)) return "";
  if (span < 45) return "just now";
  for (const [size, unit] of steps) {
    if (span < size) return relative.format(-Math.round(span), unit);
    span /= size;
  }
  return "";
}

/** Sets a <time> to that moment; keepTimes keeps its words true. */
export function setTime(node, time) {
  const date = new Date(time);
  const valid = !Number.isNaN(date.getTime());
  node.dateTime = valid ? date.toISOString() : "";
  node.title = valid ? date.toLocaleString() : "";
  node.textContent = valid ? ago(date) : "";
}

/** Refreshes the words of every <time> on the page, now and then. */
export function keepTimes() {
  setInterval(() => {
    if (document.hidden) return;
    for (const node of document.querySelectorAll("time[datetime]")) {
      const words = ago(node.dateTime);
      if (node.textContent !== words) node.textContent = words;
    }
  }, 15_000);
}

/** Says it to those who listen instead of looking. */
export function announce(words) {
  byId("announce").textContent = words;
}
