// browser.js: as much of a browser around the page as the client listens to.

/** Puts `document` and the window's events where a page finds them, until the test ends; gives the window, whose `document` it has. */
export function browser(t) {
  const target = new EventTarget();
  const document = Object.assign(new EventTarget(), { visibilityState: "visible" });
  const names = {
    document,
    addEventListener: target.addEventListener.bind(target),
    removeEventListener: target.removeEventListener.bind(target),
  };
  Object.assign(globalThis, names);
  t.after(() => Object.keys(names).forEach((name) => delete globalThis[name]));
  return Object.assign(target, { document });
}
