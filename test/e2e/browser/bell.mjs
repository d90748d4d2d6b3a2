// The demo's bell in the hands of two people, one of them with two tabs: categories, marks, archive, mute, and who is called. Environment: DEMO_URL
// (http://host:port), PICTURE (a file for the picture of two windows; none: no picture).
import assert from "node:assert/strict";
import { launch } from "./chromium.mjs";
import { at, badge, people, row, step } from "./people.mjs";

const browser = await launch();
const { open, tab } = people(browser, process.env.DEMO_URL);
const ann = await open("ann");
const ben = await open("ben");

const note = (text) => ({ all: `${at("notification")}:has-text("${text}")`, tool(name) { return `${this.all} ${at(name)}`; } });
const gone = (page, selector) => page.waitForSelector(selector, { state: "detached" });
const told = (page, text) => page.waitForSelector(`${at("story-line")}:has-text("${text}")`);
const advance = async (id) => {
  const was = await ann.getAttribute(row(id), "data-status");
  await ben.click(`${row(id)} ${at("advance")}`);
  await ann.waitForFunction(([sel, was]) => document.querySelector(sel).dataset.status !== was, [row(id), was]);
};
const mention = async (text) => {
  await ben.click(at("mention"));
  await ben.fill(at("mention-text"), text);
  await ben.click(at("mention-send"));
  await ben.waitForSelector(at("mention-dialog"), { state: "hidden" });
};

/** Takes a picture of windows beside each other, each with its title. */
async function sideBySide(file, windows) {
  const size = { width: 1060, height: 660 };
  const page = await browser.newPage({ viewport: { width: 2 * size.width + 56, height: size.height + 76 } });
  const parts = [];
  for (const [title, one] of Object.entries(windows)) {
    const was = one.viewportSize();
    await one.setViewportSize(size);
    parts.push(`<figure><figcaption>${title}</figcaption><img src="data:image/png;base64,${(await one.screenshot({ animations: "disabled" })).toString("base64")}"></figure>`);
    await one.setViewportSize(was);
  }
  await page.setContent(`<style>body{margin:12px;display:flex;gap:20px;background:#fff;font:600 20px system-ui,sans-serif}figure{margin:0;border:2px solid #b9b7c9;border-radius:8px;overflow:hidden}
    figcaption{padding:8px 14px;border-bottom:2px solid #b9b7c9;background:#efedf3;color:#44424f}img{display:block}</style>${parts.join("")}`);
  await page.screenshot({ path: file });
  await page.close();
}

// Categories.
await advance(1045);
await advance(1046);
await mention("could you look?");
await badge(ann, 3);
const second = await tab(ann.context(), "ann");
await ann.click(at("bell"));
await second.click(at("bell"));
const shown = async (page, want) => {
  await page.waitForFunction(([sel, n]) => document.querySelectorAll(sel).length === n, [at("notification"), want]);
  return page.locator(at("notification")).allInnerTexts();
};
assert.equal((await shown(ann, 3)).length, 3);
assert.match(await ann.innerText(at("filter-order")), /Orders\s*2/);
await ann.click(at("filter-mention"));
assert.match((await shown(ann, 1))[0], /could you look/);
await ann.click(at("filter-order"));
for (const text of await shown(ann, 2)) assert.match(text, /order 104[56]/);
await ann.click(at("filter-question"));
await shown(ann, 0);
await ann.waitForSelector(`${at("no-notifications")}:has-text("Nothing to read")`);
await ann.click(at("filter-all"));
await shown(ann, 3);
step("categories: chips count and filter");

// Read and unread, here and there.
const order = note("order 1045");
await ann.click(order.tool("toggle-read"));
await second.waitForSelector(`${order.all}[data-read="true"]`);
await badge(second, 2);
await told(second, "Read in another window of yours: “Ben packed order 1045”");
await told(ann, "Read here: “Ben packed order 1045”");
await second.click(order.tool("toggle-read"));
await ann.waitForSelector(`${order.all}[data-read="false"]`);
await badge(ann, 3);
step("one is marked read, and unread again from the other tab");

// Archive, the archive, back from a tab that never had it, and gone for good.
await ann.click(order.tool("archive"));
await gone(second, order.all);
await badge(second, 2);
const third = await tab(ann.context(), "ann");
await third.click(at("bell"));
await shown(third, 2);
await third.click(at("filter-archive"));
assert.match((await shown(third, 1))[0], /order 1045/);
await third.click(order.tool("archive")); // moves it back
await third.waitForSelector(`${at("no-notifications")}:has-text("Nothing archived")`);
await third.click(at("filter-all"));
await shown(third, 3);
await shown(second, 3);
await second.click(order.tool("archive"));
await second.click(at("filter-archive"));
await second.click(order.tool("delete"));
await second.waitForSelector(`${at("no-notifications")}:has-text("Nothing archived")`);
await second.click(at("filter-all"));
await shown(second, 2);
await shown(ann, 2);
await third.close();
step("archive: out of every tab, in the archive, back, deleted");

// A muted category does not come in, on any device; the page's own rows go on.
await ann.bringToFront();
await ann.click(at("tune"));
await second.click(at("tune"));
await ann.uncheck(at("lets-order"));
await second.waitForFunction((sel) => !document.querySelector(sel).checked, at("lets-order"));
await told(second, "Muted orders in another window of yours");
assert.equal(await ann.isDisabled(at("lets-question")), true, "questions always come in");
await advance(1045);
await mention("and now?"); // comes after it, and comes in
await badge(ann, 3);
assert.equal((await shown(ann, 3)).filter((text) => /1045/.test(text)).length, 0, "the order did not come in");
await second.check(at("lets-order"));
await ann.waitForFunction((sel) => document.querySelector(sel).checked, at("lets-order"));
await advance(1045);
await badge(ann, 4);
for (const page of [ann, second]) await page.click(at("tune"));
step("mute: nothing of that category comes in, until it is let in again");

// Everyone is told, by one write: each has it in the list and in the counts, and reads it alone.
await ben.click(at("everyone"));
await ben.fill(at("mention-text"), "Lunch is here");
await ben.click(at("mention-send"));
await badge(ann, 5);
await badge(second, 5);
await badge(ben, 1);
await ann.click(at("filter-news"));
assert.match((await shown(ann, 1))[0], /Ben tells everyone\s+Lunch is here/);
await ann.click(note("Lunch is here").tool("toggle-read"));
await badge(second, 4);
await badge(ben, 1);
await ann.click(at("filter-all"));
await told(ben, "Came in: “Ben tells everyone”");
step("everyone is told at once, and reads it alone");

// Somebody is asked, and looks in another tab: nobody calls.
const phone = (page, state) => page.waitForSelector(`${at("phone")}[data-state="${state}"]`);
await ann.click(at("read-all"));
await badge(ann, 0);
for (const page of [ann, second]) await page.keyboard.press("Escape");
await ann.bringToFront();
await ben.click(at("ask"));
for (const page of [ann, second, ben]) await phone(page, "waiting");
assert.equal(await ben.isDisabled(at("ask")), true, "one question at a time");
await second.bringToFront();
await second.click(at("bell"));
for (const page of [ann, second, ben]) await phone(page, "looked");
assert.match(await ben.innerText(at("phone-words")), /^Ann looked after \d+ s: the call is cancelled\.$/);
assert.match(await ann.innerText(at("phone-words")), /^You looked after \d+ s: the call is cancelled\.$/);
await told(ann, "Seen in another window of yours: “Ben asks");
if (process.env.PICTURE) await sideBySide(process.env.PICTURE, { "Ann’s window": second, "Ben’s window": ben });
step("a look at the bell, in whatever window, cancels the call");

// And does not look: the phone rings, until it is answered.
await second.close();
await ann.bringToFront();
await ben.click(at("ask"));
for (const page of [ann, ben]) await phone(page, "rings");
assert.match(await ben.innerText(at("phone-words")), /^Ann’s phone rings!/);
assert.match(await ann.innerText(at("phone-words")), /^Your phone rings!/);
assert.equal(await ben.isHidden(at("answer")), true, "it is not Ben's to answer");
await ann.click(at("answer"));
await ann.waitForSelector(at("panel"));
for (const page of [ann, ben]) await phone(page, "answered");
await ann.click(at("filter-question"));
await shown(ann, 2);
step("who does not look is called, and picks up");

// Who comes later finds the story so far.
const late = await open("ben");
await told(late, "Ann picked up after");
await told(late, "Ann’s phone rings!");
step("a page that comes later is told the story so far");
await browser.close();
console.log("done");
