// The demo as two people use it: two windows, two users, and a second tab. Environment: DEMO_URL (http://host:port), CONSOLE (the
// lines that the demo prints for a page's console, as JSON), SHOTS (a directory for pictures; none: no pictures).
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, createServer } from "node:net";
import { launch } from "./chromium.mjs";
import { at, badge, people, row, step } from "./people.mjs";

const { DEMO_URL: url, CONSOLE: lines = "[]", SHOTS: shots } = process.env;

// line is the wire between ann and the demo, which can be cut.
const line = {
  sockets: new Set(),
  up: true,
  server: createServer((here) => {
    if (!line.up) return here.destroy();
    const there = connect(new URL(url).port, new URL(url).hostname);
    for (const [from, to] of [[here, there], [there, here]]) {
      line.sockets.add(from);
      from.on("error", () => {}).on("close", () => { line.sockets.delete(from); to.destroy(); }).pipe(to);
    }
  }),
  cut() { line.up = false; for (const s of line.sockets) s.destroy(); },
  heal() { line.up = true; },
};

const browser = await launch();
line.server.listen(0, "127.0.0.1");
await once(line.server, "listening");
const { open, tab } = people(browser, url);

const ann = await open("ann");
const ben = await open("ben");
await badge(ann, 0);

// What one does the other sees, without a reload.
await ann.evaluate(() => { window.loadedOnce = true; });
const before = await ann.getAttribute(row("1045"), "data-status");
await ben.click(`${row("1045")} ${at("advance")}`);
await ann.waitForFunction(([sel, was]) => document.querySelector(sel).dataset.status !== was, [row("1045"), before]);
await badge(ann, 1);
assert.equal(await ann.title().then((t) => t.startsWith("(1)")), true, "the title counts");
assert.equal(await ann.evaluate(() => window.loadedOnce), true, "no reload");
await badge(ben, 0);
step("ben changes an order: ann sees the row, the badge and the title");

// The notification itself, in the panel.
await ann.click(at("bell"));
await ann.waitForSelector(at("panel"));
const first = ann.locator(at("notification")).first();
assert.match(await first.innerText(), /1045/);
assert.equal(await first.getAttribute("data-read"), "false");
step("the bell's panel shows the notification, unread");

// A second tab of the same person: reading in one clears the badge of the other.
const second = await tab(ann.context(), "ann");
await badge(second, 1);
await ann.click(at("read-all"));
await badge(ann, 0);
await badge(second, 0);
step("marking read in one tab clears the badge in the other");

// A new order, a mention, and back.
await ann.keyboard.press("Escape");
await ann.click(at("new-order"));
await ben.waitForFunction((n) => document.querySelectorAll('[data-testid="order"]').length > n, 6);
await badge(ben, 1);
await ben.click(at("mention"));
await ben.fill(at("mention-text"), "Can you take this one?");
await ben.click(at("mention-send"));
await badge(ann, 1);
step("a new order and a mention ring the other's bell");

// By keyboard alone: the bell opens, Escape closes it and gives the focus back, and the focus can be seen.
await ben.bringToFront();
await ben.focus(at("bell"));
await ben.keyboard.press("Enter");
await ben.waitForSelector(at("panel"));
await ben.keyboard.press("Escape");
await ben.waitForSelector(at("panel"), { state: "hidden" });
assert.equal(await ben.evaluate(() => document.activeElement.dataset.testid), "bell", "focus comes back");
const ring = await ben.evaluate(() => { const s = getComputedStyle(document.activeElement); return `${s.outlineStyle} ${s.outlineWidth} ${s.boxShadow}`; });
assert.ok(!/^none 0px none$/.test(ring), `the focus shows: ${ring}`);
step("keyboard: open, close, focus comes back and shows");

// A cut line, and everything that happened meanwhile.
const far = await open("ann", {}, `http://127.0.0.1:${line.server.address().port}`);
await badge(far, 1);
line.cut();
await far.waitForSelector(`${at("connection")}:not([data-state="open"])`);
await ben.click(`${row("1046")} ${at("advance")}`);
await badge(ann, 2);
assert.equal(await far.getAttribute(row("1046"), "data-status"), "new", "nothing comes through a cut line");
line.heal();
const now = await ben.getAttribute(row("1046"), "data-status");
await far.waitForFunction(([sel, want]) => document.querySelector(sel).dataset.status === want, [row("1046"), now]);
await badge(far, 2);
await far.context().close();
line.server.close();
step("a cut line: the page comes back by itself and has missed nothing");

// The lines for a page's console, exactly as printed.
for (const line of JSON.parse(lines)) {
  const page = await (await browser.newContext()).newPage();
  await page.goto(`${url}/`);
  const heard = new Promise((resolve) => page.on("console", (m) => { if (m.text().includes('"type":"welcome"')) resolve(m.text()); }));
  await page.evaluate((code) => { (0, eval)(code); }, line).catch(() => page.addScriptTag({ content: line }));
  await heard;
  step(`console: ${line.slice(0, 60)}…`);
}

// Nothing is cut off at phone width, in either theme; the pictures are for people.
for (const [scheme, width] of [["light", 1280], ["dark", 1280], ["light", 390], ["dark", 390]]) {
  const page = await open("ann", { colorScheme: scheme, viewport: { width, height: width === 390 ? 844 : 860 } });
  await page.click(at("bell"));
  await page.waitForSelector(at("notification"));
  const wide = await page.evaluate(() => document.documentElement.scrollWidth);
  assert.ok(wide <= width, `${scheme} ${width}: the page is ${wide} px wide`);
  if (shots) await page.screenshot({ path: `${shots}/demo-${scheme}-${width}.png` });
  await page.context().close();
}
step("light and dark, 390 and 1280 px: nothing is cut off");
await browser.close();
console.log("done");
