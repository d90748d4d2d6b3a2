// People with windows of the demo's page, as the scripts here use it.

export const at = (id) => `[data-testid="${id}"]`;
export const row = (id) => `${at("order")}[data-order="${id}"]`;
export const step = (text) => console.log(`ok - ${text}`);

/** Who opens the demo at a URL in a browser. */
export function people(browser, url) {
  /** One person's window: their own cookies and storage. */
  async function open(user, options = {}, base = url) {
    const context = await browser.newContext({ viewport: { width: 1280, height: 860 }, ...options });
    return tab(context, user, base);
  }

  /** One more tab of theirs. */
  async function tab(context, user, base = url) {
    const page = await context.newPage();
    page.on("pageerror", (e) => { throw e; });
    // A page behind a line that is cut may complain of it, and Chromium may say so late.
    page.on("console", (m) => { if (m.type() === "error" && base === url) throw new Error(`${user}'s console: ${m.text()}`); });
    await page.goto(`${base}/?user=${user}`);
    await page.waitForSelector(`${at("connection")}[data-state="open"]`);
    await page.waitForSelector(at("order"));
    return page;
  }
  return { open, tab };
}

/** The number on the bell; 0: none. */
export const badge = (page, n) => page.waitForFunction(([sel, want]) => {
  const el = document.querySelector(sel);
  return want === 0 ? !el || el.hidden || !el.offsetParent : el?.textContent.trim() === String(want);
}, [at("badge"), n]);
