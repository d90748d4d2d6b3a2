import assert from "node:assert/strict";
import { test } from "node:test";
import { badge, item, notification, until, world } from "./kit/gateway.js";

const ids = (items) => items.map(({ id }) => id);

/** A page with a list of n3, n2, n1, all unread, at place 10. */
async function loaded(t, options = {}) {
  const { gateway, page } = await world(t);
  const it = page({ inbox: 20, ...options });
  const peer = await gateway.welcome({ badge: badge(3, 3, 10, { mention: 3 }) });
  const items = [item(3), item(2), item(1)];
  peer.send({ type: "inbox", items, before: "p2", at: { "user:42": "u.10" }, badge: badge(3, 3, 10, { mention: 3 }) });
  await until("the list", () => it.client.inbox.items.length === 3);
  return { gateway, page, peer, inbox: it.client.inbox, ...it };
}

/** Lets everything that the gateway has sent be handled. */
async function handled(peer, said) {
  const mark = String(Math.random());
  peer.send({ type: "degraded", what: mark });
  await until("all is handled", () => said.frame.some(({ what }) => what === mark));
}

test("list, badge and notification come together; what the list contains already is not added twice", async (t) => {
  const { peer, inbox, said } = await loaded(t);
  assert.deepEqual(ids(inbox.items), ["n3", "n2", "n1"]);
  peer.send(notification(3, { pos: "u.9" }), notification(2, { pos: "u.10", badge: badge(99, 99, 9) }));
  peer.send(notification(11, { badge: badge(4, 4, 11, { mention: 4 }) }));
  await until("the new one", () => said.notification.length === 1);
  assert.deepEqual(ids(inbox.items), ["n11", "n3", "n2", "n1"]);
  assert.deepEqual(inbox.badge, badge(4, 4, 11, { mention: 4 }));
  const { seen, read, archived, data, topic } = said.notification[0];
  assert.deepEqual({ seen, read, archived, data, topic }, { seen: false, read: false, archived: false, data: { title: "n11" }, topic: "user:42" });
  assert.deepEqual(said.badge.map(({ unread }) => unread), [3, 4]);
});

test("what comes back from the archive is listed anew where the page never had it, and only there", async (t) => {
  const { peer, inbox, said } = await loaded(t);
  const frame = (n, change) => ({ type: "badge", topic: "user:42", pos: `u.${n}`, badge: badge(3, 0, n), change });
  peer.send(frame(11, { archive: ["n3"] }), frame(12, { unarchive: ["n3"] }));
  await handled(peer, said);
  peer.send(frame(13, { unarchive: ["n3", "n0"] }));
  const { ref, before } = await peer.take("inbox"); // the first that is asked for
  assert.equal(before, undefined);
  peer.send({ type: "inbox", ref, items: [item(3), item(2), item(1), item(0)], at: { "user:42": "u.13" }, badge: badge(4, 0, 13) });
  await until("it is back", () => inbox.items.length === 4);
  assert.deepEqual(ids(inbox.items), ["n3", "n2", "n1", "n0"]);
});

test("a notification known by (topic, id) is ignored; one that is replayed is sorted in by time, without an event", async (t) => {
  const { peer, inbox, said } = await loaded(t);
  peer.send(notification(11), notification(11, { pos: "w.1" }), notification(2, { pos: "w.2", replayed: true }));
  peer.send(notification(12, { time: "1970-01-01T00:00:02.5Z", pos: "w.3", replayed: true }), notification(13, { topic: "segment:all" }));
  await handled(peer, said);
  assert.deepEqual(ids(said.notification), ["n11", "n13"]);
  assert.deepEqual(ids(inbox.items), ["n13", "n11", "n3", "n12", "n2", "n1"]);
});

test("change, update, retract and replaces do what they say; frames about items not held are ignored", async (t) => {
  const { peer, inbox, said } = await loaded(t);
  let changes = 0;
  inbox.on("change", () => changes++);
  const frame = (n, more) => ({ type: "badge", topic: "user:42", pos: `u.${n}`, badge: badge(0, 0, n), ...more });
  peer.send(frame(11, { change: { read: ["n1", "gone"], seen: ["n2"] } }));
  peer.send({ type: "update", topic: "user:42", pos: "u.12", id: "n2", data: { title: "new" } });
  peer.send({ type: "update", topic: "segment:x", pos: "s.1", id: "n2", data: { title: "of another stream" } });
  peer.send({ type: "retract", topic: "user:42", pos: "u.13", id: "gone", reason: "expired" });
  await handled(peer, said);
  const flags = ({ id, seen, read }) => [id, seen, read];
  assert.deepEqual(inbox.items.map(flags), [["n3", false, false], ["n2", true, false], ["n1", true, true]]);
  assert.deepEqual(inbox.items[1].data, { title: "new" });
  assert.ok(changes >= 4);

  peer.send(frame(14, { change: { unread: ["n1"], archive: ["n2"] } }));
  await handled(peer, said);
  assert.deepEqual(inbox.items.map(flags), [["n3", false, false], ["n1", true, false]]);
  peer.send(frame(15, { change: { unarchive: ["n2"], delete: ["n3"], __proto__: ["n1"], tickle: ["n1"] } }));
  peer.send({ type: "retract", topic: "user:42", pos: "u.16", id: "n1", reason: "retracted", badge: badge(1, 1, 16) });
  await handled(peer, said);
  assert.deepEqual(ids(inbox.items), ["n2"]);
  assert.equal(inbox.badge.unread, 1);

  peer.send(notification(17, { id: "r1", replaces: "n2" }), notification(18, { id: "r2", replaces: "r1" }));
  await handled(peer, said);
  assert.deepEqual(ids(inbox.items), ["r2"]);
  peer.send({ type: "update", topic: "user:42", pos: "u.19", id: "n2", data: "by its first name" });
  await handled(peer, said);
  assert.equal(inbox.items[0].data, "by its first name");
  inbox.read("n2").catch(() => {}); // never answered
  assert.equal(inbox.items[0].read, true, "the old id marks the item that took its place");
});

test("badges of the connection are always taken, in order; one from elsewhere only if its rev is surely newer", async (t) => {
  const { peer, inbox, said } = await loaded(t);
  peer.send({ type: "badge", badge: badge(5, 5, 20) }, { type: "badge", badge: badge(4, 4, 12) });
  await handled(peer, said);
  assert.equal(inbox.badge.unread, 4);
  assert.equal(inbox.offer(badge(9, 9, 12)), false, "equal");
  assert.equal(inbox.offer(badge(9, 9, 11)), false, "older");
  assert.equal(inbox.offer({ unread: 9, unseen: 9, by: {}, rev: "w.99" }), false, "another epoch");
  assert.equal(inbox.offer({ unread: 9, unseen: 9, by: {} }), false, "without rev");
  assert.equal(inbox.badge.unread, 4);
  assert.equal(inbox.offer(badge(2, 1, 13)), true);
  assert.equal(inbox.badge.unread, 2);
  peer.send({ type: "badge", badge: { unread: 0, unseen: 0, rev: "w.1" } });
  await handled(peer, said);
  assert.deepEqual(inbox.badge, { unread: 0, unseen: 0, by: {}, rev: "w.1" });
});

test("a mark shows at once and stays until ok and the frame at its place, whichever comes first", async (t) => {
  const { peer, inbox, said } = await loaded(t);
  for (const [n, order] of [[1, ["ok", "frame"]], [2, ["frame", "ok"]]]) {
    const left = 3 - n;
    const done = inbox.read(`n${n}`);
    const shown = () => [inbox.items.find(({ id }) => id === `n${n}`).read, inbox.badge.unread, inbox.badge.unseen, inbox.badge.by.mention];
    assert.deepEqual(shown(), [true, left, left, left]);
    const frame = await peer.take("read");
    assert.deepEqual(frame.ids, [`n${n}`]);
    const pos = `u.${20 + n}`;
    const event = { type: "badge", topic: "user:42", pos, badge: badge(left, left, 20 + n, { mention: left }), change: { read: [`n${n}`] }, mine: true };
    for (const what of order) {
      peer.send(what === "ok" ? { type: "ok", ref: frame.ref, changed: 1, pos } : event);
      await handled(peer, said);
      assert.deepEqual(shown(), [true, left, left, left], `mark ${n}, after ${what}`);
    }
    assert.deepEqual(await done, { changed: 1, pos });
  }
  // nothing lies over the gateway's word any more: it may take the marks back, even by a frame without a place
  peer.send({ type: "badge", badge: badge(3, 1, 30), change: { unread: ["n1", "n2"] } });
  await handled(peer, said);
  assert.deepEqual(inbox.items.map(({ read }) => read), [false, false, false]);
});

test("before its frame came an answered mark still holds against older frames", async (t) => {
  const { peer, inbox, said } = await loaded(t);
  const done = inbox.read("n1");
  const { ref } = await peer.take("read");
  peer.send({ type: "ok", ref, changed: 1, pos: "u.14" });
  await done;
  peer.send({ type: "badge", topic: "user:42", pos: "u.13", badge: badge(2, 2, 13), change: { seen: ["n3"] } });
  await handled(peer, said);
  assert.equal(inbox.items[2].read, true);
  peer.send({ type: "badge", topic: "user:42", pos: "u.15", badge: badge(3, 2, 15), change: {} });
  await handled(peer, said);
  assert.equal(inbox.items[2].read, false, "15 is beyond 14: the gateway's word counts");
});

test("an error rolls the mark back and rejects; nothing changed is no event to wait for", async (t) => {
  const { peer, inbox, said } = await loaded(t);
  const refused = inbox.delete({ ids: ["n1", "n2"] });
  assert.deepEqual([ids(inbox.items), inbox.badge.unread], [["n3"], 1]);
  const { ref } = await peer.take("delete");
  peer.send({ type: "error", ref, code: "unavailable", message: "Redis is away" });
  await assert.rejects(refused, { name: "AllimError", code: "unavailable", message: "Redis is away" });
  assert.deepEqual([ids(inbox.items), inbox.badge.unread], [["n3", "n2", "n1"], 3]);
  assert.deepEqual(said.badge.map(({ unread }) => unread), [3, 1, 3]);

  const nothing = inbox.archive("n9");
  const archive = await peer.take("archive");
  peer.send({ type: "ok", ref: archive.ref, changed: 0, unknown: ["n9"] });
  assert.deepEqual(await nothing, { changed: 0, unknown: ["n9"] });
  assert.equal(inbox.badge.unread, 3);
});

test("each mark changes list and counts as the gateway will", async (t) => {
  const { peer, inbox } = await loaded(t);
  const shows = () => [ids(inbox.items).join(), inbox.badge.unread, inbox.badge.unseen, inbox.badge.by.mention ?? 0];
  const steps = [
    ["seen", "n1", ["n3,n2,n1", 3, 2, 3]],
    ["read", "n1", ["n3,n2,n1", 2, 2, 2]],
    ["unread", "n1", ["n3,n2,n1", 3, 2, 3]],
    ["archive", "n1", ["n3,n2", 2, 2, 2]],
    ["unarchive", "n1", ["n3,n2,n1", 3, 2, 3]],
    ["delete", "n2", ["n3,n1", 2, 1, 2]],
    ["seen", { all: true }, ["n3,n1", 2, 0, 2]],
    ["read", { upto: "u.2" }, ["n3,n1", 1, 0, 1]],
    ["read", { upto: { "user:42": "u.3" } }, ["n3,n1", 0, 0, 0]],
    ["archive", { all: true }, ["", 0, 0, 0]],
  ];
  for (const [name, target, want] of steps) {
    inbox[name](target).catch(() => {}); // never answered: it ends with the test
    assert.deepEqual(shows(), want, `${name} ${JSON.stringify(target)}`);
    const { type, ref, ...body } = await peer.take(name);
    assert.deepEqual(body, typeof target === "string" ? { ids: [target] } : target);
  }
});

test("all clears counts of items that are not in the list, and does not mean what comes after it", async (t) => {
  const { peer, inbox, said } = await loaded(t);
  peer.send({ type: "badge", badge: badge(120, 80, 10, { mention: 100, other: 20 }) });
  await handled(peer, said);
  inbox.read({ all: true }).catch(() => {});
  assert.deepEqual([inbox.badge.unread, inbox.badge.unseen, inbox.badge.by], [0, 0, {}]);
  peer.send(notification(11, { badge: badge(121, 81, 11, { mention: 101, other: 20 }) }));
  await until("the new one", () => said.notification.length === 1);
  assert.deepEqual([inbox.badge.unread, inbox.badge.unseen, inbox.badge.by], [1, 1, { mention: 1 }]);
  assert.deepEqual(inbox.items.map(({ read }) => read), [false, true, true, true]);
});

test("a mark without an answer is sent again with its ref: after 10 s, and on the next connection", async (t) => {
  const { gateway, peer, inbox, client, clock } = await loaded(t);
  const done = inbox.read("n1");
  const first = await peer.take("read");
  clock.pass(9_999);
  clock.pass(1);
  assert.deepEqual(await peer.take("read"), first);
  peer.socket.terminate();
  await until("waiting", () => client.state === "waiting");
  const offline = inbox.seen("n2");
  assert.deepEqual([inbox.badge.unread, inbox.badge.unseen], [2, 1], "marks work offline");
  clock.pass(500);
  const next = await gateway.welcome({ badge: badge(3, 3, 10, { mention: 3 }) });
  await next.subscribed();
  assert.deepEqual(await next.take("read"), first);
  const seen = await next.take("seen");
  next.send({ type: "ok", ref: first.ref, changed: 1, pos: "u.11" }, { type: "ok", ref: seen.ref, changed: 0 });
  assert.deepEqual(await Promise.all([done, offline]), [{ changed: 1, pos: "u.11" }, { changed: 0 }]);
  assert.ok(clock.timers.size > 0);
  clock.pass(10_000);
  next.send({ type: "pong" });
});

test("a hundred unanswered requests are the most; one more is refused and rolled back", async (t) => {
  const { inbox } = await loaded(t);
  for (let i = 0; i < 100; i++) inbox.seen("n1").catch(() => {});
  assert.equal(inbox.badge.unseen, 2);
  await assert.rejects(inbox.read("n2"), { code: "limit" });
  assert.equal(inbox.badge.unread, 3);
});

test("many ids go out in marks of at most 500, and the answers are summed up", async (t) => {
  const { peer, inbox } = await loaded(t);
  const many = Array.from({ length: 1100 }, (_, i) => `i${i}`);
  const done = inbox.read({ ids: many });
  const asked = [];
  while (asked.length < many.length) {
    const frame = await peer.take("read");
    assert.ok(frame.ids.length <= 500);
    asked.push(...frame.ids);
    peer.send({ type: "ok", ref: frame.ref, changed: frame.ids.length, pos: `u.${asked.length}` });
  }
  assert.deepEqual(asked, many);
  assert.deepEqual(await done, { changed: 1100, pos: "u.1100" });
  assert.deepEqual(await inbox.read({ ids: [] }), { changed: 0 });
});

test("a mark of what is no target is refused at once and leaves nothing behind", async (t) => {
  const { peer, inbox } = await loaded(t);
  const wrong = [undefined, null, 7, "", ["n1"], {}, { ids: "n1" }, { ids: [7] }, { ids: [""] }, { ids: { 0: "n1" } }, { id: "n1" }];
  wrong.push({ upto: undefined }, { upto: 7 }, { upto: ["u.3"] }, { upto: { "user:42": 3 } }, { all: false }, { all: "yes" }, { all: true, ids: "n1" });
  for (const name of ["seen", "read", "unread", "archive", "unarchive", "delete"]) {
    for (const target of wrong) {
      await assert.rejects(inbox[name](target), { name: "TypeError", message: /^mark: expected an id, / }, `${name} ${JSON.stringify(target)}`);
      assert.equal(inbox.badge.unread, 3);
      assert.deepEqual(ids(inbox.items), ["n3", "n2", "n1"]);
    }
  }
  inbox.read({ ids: ["n1"], upto: undefined }).catch(() => {}); // what is undefined is not there
  const { ref, type, ...rest } = await peer.take("read"); // the first that was sent
  assert.deepEqual(rest, { ids: ["n1"] });
});

test("pages are appended behind the list, once, and frames up to a page's place still count", async (t) => {
  const { peer, inbox, said } = await loaded(t);
  assert.equal(inbox.hasMore, true);
  const page = inbox.more(2);
  assert.equal(inbox.more(2), page, "one page at a time");
  const asked = await peer.take("inbox");
  assert.deepEqual([asked.limit, asked.before], [2, "p2"]);
  // the store is ahead of the stream: n12 and the mark at 13 are still on their way
  peer.send({ type: "inbox", ref: asked.ref, items: [item(1), item(0)], at: { "user:42": "u.13" }, badge: badge(3, 3, 13) });
  assert.deepEqual(ids(await page), ["n0"]);
  assert.equal(inbox.hasMore, false);
  assert.deepEqual(ids(await inbox.more()), []);
  peer.send(notification(12), { type: "badge", topic: "user:42", pos: "u.13", badge: badge(3, 3, 13), change: { read: ["n3"] } });
  await handled(peer, said);
  assert.deepEqual(ids(inbox.items), ["n12", "n3", "n2", "n1", "n0"]);
  assert.equal(inbox.items[1].read, true);
});

test("the first page of a page that loaded none replaces what came live, and an answer nobody waits for is ignored", async (t) => {
  const { gateway, page } = await world(t);
  const { client, said } = page();
  const peer = await gateway.welcome();
  assert.equal(peer.url.searchParams.get("inbox"), null);
  assert.equal(client.inbox.hasMore, true);
  const first = client.inbox.more();
  const asked = await peer.take("inbox");
  assert.ok(!("before" in asked));
  peer.send(notification(11));
  await handled(peer, said);
  peer.send({ type: "inbox", ref: asked.ref, items: [item(12), item(11)], at: { "user:42": "u.12" } });
  assert.deepEqual(ids(await first), ["n12", "n11"]);
  peer.send({ type: "inbox", ref: asked.ref, items: [], at: {} }, { type: "inbox", ref: 77, items: [], at: {} });
  peer.send(notification(12));
  await handled(peer, said);
  assert.deepEqual(ids(client.inbox.items), ["n12", "n11"]);
  assert.deepEqual(ids(said.notification), ["n11", "n12"], "each is announced once, in the list or not");
});

test("after a reset the list that follows replaces all, a page asked for under the old one is dropped", async (t) => {
  const { gateway, peer, inbox, client, clock, said } = await loaded(t);
  const page = inbox.more();
  const asked = await peer.take("inbox");
  peer.send({ type: "reset", topic: "user:42", reason: "history_gone" });
  peer.send({ type: "inbox", items: [item(40)], at: { "user:42": "v.4" }, badge: { unread: 1, unseen: 1, rev: "v.4" } });
  peer.send({ type: "inbox", ref: asked.ref, items: [item(0)], at: {} });
  assert.deepEqual(await page, []);
  assert.deepEqual(ids(inbox.items), ["n40"]);
  assert.deepEqual(said.reset.map(({ topic, reason }) => [topic, reason]), [["user:42", "history_gone"]]);
  peer.send(notification(39, { pos: "v.4" }), notification(41, { pos: "v.5" }));
  await handled(peer, said);
  assert.deepEqual(ids(inbox.items), ["n41", "n40"]);
  peer.socket.terminate();
  await until("waiting", () => client.state === "waiting");
  clock.pass(500);
  const next = await gateway.welcome({ topics: { "user:42": "v.9" } });
  assert.deepEqual((await next.take("subscribe")).topics, { "user:42": "v.5" });
});

test("notifications missed while away come in order after the place; those that came too early wait for their turn", async (t) => {
  const { gateway, peer, inbox, client, clock, said } = await loaded(t);
  peer.socket.terminate();
  await until("waiting", () => client.state === "waiting");
  clock.pass(500);
  const next = await gateway.welcome({ topics: { "user:42": "u.12" }, badge: badge(5, 5, 12) });
  next.send(notification(13, { pos: "u.14", badge: badge(6, 6, 14) })); // live, with 11 and 12 missing before it
  await until("its badge, at once", () => inbox.badge.unread === 6);
  assert.equal(inbox.items.length, 3);
  await next.subscribed({}, { recovered: ["user:42"] });
  // recovered frames carry no badge, marks of another device among them: it follows the batch
  next.send(notification(11), { type: "badge", topic: "user:42", pos: "u.12", change: { read: ["n1"] } });
  next.send(notification(12, { pos: "u.13" }), notification(13, { pos: "u.14" }), { type: "badge", topic: "user:42", badge: badge(5, 5, 14) });
  await handled(next, said);
  assert.deepEqual([inbox.items.at(-1).read, inbox.badge.unread], [true, 5]);
  assert.deepEqual(ids(inbox.items), ["n13", "n12", "n11", "n3", "n2", "n1"]);
  assert.deepEqual(ids(said.notification), ["n11", "n12", "n13"]);
});

test("a slow handler of the own stream does not hold up bell and list", async (t) => {
  const { gateway, page } = await world(t);
  const { client } = page();
  const me = client.subscribe("me", () => new Promise(() => {}));
  const peer = await gateway.welcome();
  peer.send({ type: "message", topic: "user:42", pos: "u.11", id: "m11" }, notification(12, { badge: badge(1, 1, 12) }));
  await until("the bell", () => client.inbox.badge.unread === 1);
  assert.deepEqual(ids(client.inbox.items), ["n12"]);
  assert.equal(me.position, "u.10");
});

test("frames that come again for a handler that asked for history change nothing in list and badge", async (t) => {
  const { peer, inbox, client, said } = await loaded(t);
  const change = (n, name) => ({ type: "badge", topic: "user:42", pos: `u.${n}`, badge: badge(3, 3, n), change: { [name]: ["n1"] } });
  peer.send(change(11, "read"), change(12, "unread"));
  await handled(peer, said);
  client.subscribe("me", () => {}, { from: "0" });
  await peer.subscribed({ "user:42": "u.9" });
  const { badge: _, ...without } = change(11, "read");
  peer.send({ ...without, badge: badge(3, 3, 12) }, notification(12, { id: "n3" }));
  await handled(peer, said);
  assert.equal(inbox.items[2].read, false);
  assert.deepEqual(said.notification, []);
});

test("only a stream that was reset goes on after the list that replaced it", async (t) => {
  const { gateway, peer, client, clock, said } = await loaded(t);
  const back = async (from, welcome) => {
    from.socket.terminate();
    await until("waiting", () => client.state === "waiting");
    clock.pass(500);
    const next = await gateway.welcome(welcome);
    return { next, asked: (await next.subscribed()).topics };
  };
  const topics = { "user:42": "v.9", "segment:a": "s.9" };
  peer.send({ type: "reset", topic: "user:42" }, { type: "inbox", items: [], at: { "user:42": "v.4" } });
  await handled(peer, said);
  const first = await back(peer, { topics });
  assert.deepEqual(first.asked, { "user:42": "v.4" });
  // a segment is reset: the list is new, but an event of the own stream before its place is still to come
  first.next.send({ type: "reset", topic: "segment:a" }, { type: "inbox", items: [], at: { "user:42": "v.8", "segment:a": "s.7" } });
  first.next.send({ type: "inbox", items: [], at: { "segment:a": "s.20" } });
  await handled(first.next, said);
  const second = await back(first.next, { topics });
  assert.deepEqual(second.asked, { "user:42": "v.4", "segment:a": "s.7" });
});

test("a list holds at most 1,000 items", async (t) => {
  const { peer, inbox, said } = await loaded(t);
  for (let n = 11; n <= 1100; n++) peer.send(notification(n));
  await handled(peer, said);
  assert.equal(inbox.items.length, 1000);
  assert.deepEqual([inbox.items[0].id, inbox.items.at(-1).id, inbox.hasMore], ["n1100", "n101", false]);
});

test("a list that was announced by a reset and lost with the connection is asked for on the next", async (t) => {
  const { gateway, peer, inbox, client, clock, said } = await loaded(t);
  const page = inbox.more();
  const older = await peer.take("inbox"); // of the list that is over
  peer.send({ type: "reset", topic: "user:42", pos: "u.80", reason: "history_gone" });
  await until("the reset", () => said.reset.length === 1);
  peer.socket.terminate(); // before the list
  await until("waiting", () => client.state === "waiting");
  clock.pass(500);
  const next = await gateway.welcome({ topics: { "user:42": "u.80" } });
  await next.subscribed({}, { recovered: ["user:42"] });
  assert.deepEqual(await next.take("inbox"), older);
  next.send({ type: "inbox", ref: older.ref, items: [item(0)], at: {} });
  assert.deepEqual(await page, []);
  const asked = await next.take("inbox");
  assert.ok(!("before" in asked));
  next.send({ type: "inbox", ref: asked.ref, items: [item(80), item(79)], at: { "user:42": "u.80" } });
  await until("the list", () => inbox.items.length === 2);
  assert.deepEqual(ids(inbox.items), ["n80", "n79"]);

  // and the same when it moves meanwhile
  next.send({ type: "reset", topic: "user:42", pos: "u.90", reason: "history_gone" }, { type: "move", after_ms: 0 });
  await until("the second reset", () => said.reset.length === 2);
  await until("the move", () => said.frame.at(-1).type === "move");
  clock.pass(0);
  const third = await gateway.welcome({ session: "s3", topics: { "user:42": "u.90" } });
  await until("moved", () => client.session === "s3");
  const again = await third.take("inbox");
  assert.ok(!("before" in again), "the list from its beginning");
  third.send({ type: "inbox", ref: again.ref, items: [], at: { "user:42": "u.90" } });
  await until("the list", () => inbox.items.length === 0);

  // no list comes after the reset of an event topic: none is missed
  await third.subscribed({}, { recovered: ["user:42"] });
  assert.deepEqual(await third.take("inbox"), again, "what is unanswered at the welcome goes out again");
  client.subscribe("a", () => {});
  await third.subscribed();
  third.send({ type: "reset", topic: "a", pos: "j.0", reason: "history_gone" });
  await until("the third reset", () => said.reset.length === 3);
  third.socket.terminate();
  await until("waiting again", () => client.state === "waiting");
  assert.equal(inbox.hasMore, false);
  client.close();

  // nor is a list asked for that the page never had
  const { client: plain, said: heard, clock: time } = (await world(t)).page({ url: gateway.url });
  const fourth = await gateway.welcome();
  fourth.send({ type: "reset", topic: "user:42", pos: "u.80", reason: "history_gone" });
  await until("its reset", () => heard.reset.length === 1);
  fourth.socket.terminate();
  await until("it waits", () => plain.state === "waiting");
  time.pass(500);
  const fifth = await gateway.welcome();
  await until("open", () => plain.state === "open");
  await fifth.subscribed();
  plain.inbox.seen("n1").catch(() => {});
  await fifth.take("seen"); // and nothing before it
});
