import assert from "node:assert/strict";
import { test } from "node:test";
import { message, until, world } from "./kit/gateway.js";

const ids = (messages) => messages.map(({ id }) => id);

/** A handler that keeps each message until the test lets it return. */
function slow() {
  const held = [];
  const handler = (message) => new Promise((resolve) => held.push({ id: message.id, release: resolve }));
  return { held, handler };
}

test("one subscribe asks for all topics; after a drop it names the positions, and repeats are not handled again", async (t) => {
  const { gateway, page } = await world(t);
  const { client, clock } = page({ topics: ["news"] });
  const got = [];
  const a = client.subscribe("a", (m) => got.push(m.id), { from: "0" });
  client.subscribe("b", () => {}, { from: null });
  client.subscribe("c", () => {}, { from: "k.7" });
  let peer = await gateway.welcome();
  const { topics } = await peer.subscribed({ news: "n.5", b: "b.9" });
  assert.deepEqual(topics, { news: null, a: "0", b: null, c: "k.7" });
  await a.ready;
  peer.send(message("a", 1), message("a", 2), message("a", 3), message("news", 6, { pos: "n.6" }));
  await until("handled", () => got.length === 3);
  assert.equal(a.position, "k.3");

  peer.socket.terminate();
  await until("waiting", () => client.state === "waiting");
  clock.pass(500);
  peer = await gateway.welcome({ topics: { "user:42": "u.30" } });
  const again = await peer.subscribed({}, { recovered: ["a", "b", "c", "news", "user:42"] });
  assert.deepEqual(again.topics, { news: "n.6", a: "k.3", b: "b.9", c: "k.7", "user:42": "u.10" });
  peer.send(message("a", 2), message("a", 3), message("a", 4));
  await until("the rest", () => got.length === 4);
  assert.deepEqual(got, ["m1", "m2", "m3", "m4"]);
});

test("a message is known by (topic, id): a new place in a new epoch does not make it new, another topic does", async (t) => {
  const { gateway, page } = await world(t);
  const { client, said } = page();
  const got = [];
  for (const name of ["a", "b"]) client.subscribe(name, (m) => got.push(m.topic + m.id));
  const peer = await gateway.welcome();
  await peer.subscribed();
  peer.send(message("a", 1), message("a", 2));
  peer.send({ type: "reset", topic: "a", pos: "j.0", reason: "history_gone" });
  peer.send(message("a", 1, { pos: "j.1" }), message("a", 3, { pos: "j.2" }), message("b", 1), message("a", 1, { pos: "j.3", replayed: true }));
  await until("the last", () => got.includes("bm1"));
  assert.deepEqual(got, ["am1", "am2", "am3", "bm1"]);
  assert.deepEqual(said.reset, [{ topic: "a", pos: "j.0", reason: "history_gone" }]);
  assert.deepEqual(said.message.map((m) => m.topic + m.id), got);
});

test("the last 512 ids are known, an older one is not", async (t) => {
  const { gateway, page } = await world(t);
  const { client } = page();
  const got = [];
  client.subscribe("a", (m) => got.push(m.id));
  const peer = await gateway.welcome();
  await peer.subscribed();
  for (let n = 1; n <= 513; n++) peer.send(message("a", n));
  peer.send(message("a", 2, { pos: "j.1" }), message("a", 1, { pos: "j.2" }), message("a", 999, { pos: "j.3" }));
  await until("the last", () => got.includes("m999"));
  assert.deepEqual(got.slice(512), ["m513", "m1", "m999"]);
});

test("messages of a topic are handled one after the other, those of another topic do not wait", async (t) => {
  const { gateway, page } = await world(t);
  const { client } = page();
  const { held, handler } = slow();
  const fast = [];
  const a = client.subscribe("a", handler);
  client.subscribe("b", (m) => fast.push(m.id));
  const peer = await gateway.welcome();
  await peer.subscribed();
  peer.send(message("a", 1), message("a", 2), message("b", 1));
  await until("the other topic", () => fast.length === 1);
  assert.deepEqual(ids(held), ["m1"]);
  assert.equal(a.position, "k.0", "the place moves when the handler has returned");
  held[0].release();
  await until("the second", () => held.length === 2);
  assert.equal(a.position, "k.1");
  held[1].release();
  await until("the place", () => a.position === "k.2");
});

test("what a handler had not finished when the connection dropped is not lost and not handled twice", async (t) => {
  const { gateway, page } = await world(t);
  const { client, clock } = page();
  const { held, handler } = slow();
  const a = client.subscribe("a", handler);
  let peer = await gateway.welcome();
  await peer.subscribed();
  peer.send(message("a", 1), message("a", 2));
  await until("the first", () => held.length === 1);
  peer.socket.terminate();
  await until("waiting", () => client.state === "waiting");
  clock.pass(500);
  peer = await gateway.welcome();
  assert.equal((await peer.subscribed({ a: "k.0" })).topics.a, "k.0");
  peer.send(message("a", 1), message("a", 2), message("a", 3));
  for (let n = 1; n <= 3; n++) {
    await until(`message ${n}`, () => held.length === n);
    held[n - 1].release();
  }
  await until("the end", () => a.position === "k.3");
  assert.deepEqual(ids(held), ["m1", "m2", "m3"]);
});

test("a handler that throws or rejects is reported; the stream goes on, and so do its neighbours", async (t) => {
  const { gateway, page } = await world(t);
  const { client, log } = page();
  const got = [];
  const a = client.subscribe("a", () => {
    throw new Error("one");
  });
  client.subscribe("a", async () => Promise.reject(new Error("two")));
  client.subscribe("a", (m) => got.push(m.id));
  client.on("message", () => {
    throw new Error("three");
  });
  const peer = await gateway.welcome();
  await peer.subscribed();
  peer.send(message("a", 1), message("a", 2));
  await until("both", () => got.length === 2 && a.position === "k.2");
  const errors = log.filter(({ event }) => event === "error").map(({ detail }) => detail.error.message);
  assert.deepEqual(errors.sort(), ["one", "one", "three", "three", "two", "two"]);
});

test("a second handler that asks for history gets it, the first hears nothing twice", async (t) => {
  const { gateway, page } = await world(t);
  const { client } = page();
  const first = [];
  const second = [];
  client.subscribe("a", (m) => first.push(m.id));
  const peer = await gateway.welcome();
  await peer.subscribed();
  peer.send(message("a", 1), message("a", 2));
  await until("live", () => first.length === 2);
  const sub = client.subscribe("a", (m) => second.push(m.id), { from: "0" });
  const asked = await peer.take("subscribe");
  assert.deepEqual(asked.topics, { a: "0" });
  peer.send(message("a", 3)); // sent before the gateway saw the wish: it comes again
  peer.send({ type: "subscribed", ref: asked.ref, topics: { a: "k.0" } });
  peer.send(...[1, 2, 3, 4].map((n) => message("a", n)));
  await until("all", () => second.length === 4);
  await sub.ready;
  assert.deepEqual(first, ["m1", "m2", "m3", "m4"]);
  assert.deepEqual(second, ["m1", "m2", "m3", "m4"]);
  assert.equal(sub.position, "k.4");
});

test("a handler that catches up is not given again what it was at when the connection dropped", async (t) => {
  const { gateway, page } = await world(t);
  const { client, clock } = page();
  const first = [];
  const { held, handler } = slow();
  client.subscribe("a", (m) => first.push(m.id));
  let peer = await gateway.welcome();
  await peer.subscribed();
  peer.send(...[1, 2, 3].map((n) => message("a", n)));
  await until("live", () => first.length === 3);
  client.subscribe("a", handler, { from: "0" });
  await peer.subscribed({ a: "k.0" });
  peer.send(...[1, 2, 3].map((n) => message("a", n)));
  await until("it is at the first", () => held.length === 1);
  peer.socket.terminate();
  await until("waiting", () => client.state === "waiting");
  clock.pass(500);
  peer = await gateway.welcome();
  assert.equal((await peer.subscribed({ a: "k.0" })).topics.a, "k.0");
  peer.send(...[1, 2, 3, 4].map((n) => message("a", n)));
  for (let n = 1; n <= 4; n++) {
    await until(`message ${n}`, () => held.length === n);
    held[n - 1].release();
  }
  await until("the first handler too", () => first.length === 4);
  assert.deepEqual([ids(held), first], [["m1", "m2", "m3", "m4"], ["m1", "m2", "m3", "m4"]]);
});

test("history that is longer than the ids remembered is still not handled twice: its places are known", async (t) => {
  const { gateway, page } = await world(t);
  const { client } = page();
  const first = [];
  let second = 0;
  client.subscribe("a", (m) => first.push(m.id));
  const peer = await gateway.welcome();
  await peer.subscribed();
  const all = Array.from({ length: 600 }, (_, i) => message("a", i + 1));
  peer.send(...all);
  await until("live", () => first.length === 600);
  client.subscribe("a", () => second++, { from: "0" });
  await peer.subscribed({ a: "k.0" });
  peer.send(...all);
  await until("history", () => second === 600);
  assert.equal(first.length, 600);
});

test("the last handler that closes unsubscribes; streams that are heard without asking stay", async (t) => {
  const { gateway, page } = await world(t);
  const { client } = page();
  const own = [];
  const one = client.subscribe("a", () => {});
  const two = client.subscribe("a", () => {});
  const me = client.subscribe("me", (m) => own.push(m.id));
  const peer = await gateway.welcome();
  await Promise.all([peer.subscribed(), me.ready]);
  await Promise.all([one.ready, two.ready]);
  peer.send({ type: "message", topic: "user:42", pos: "u.11", id: "m11" });
  await until("an event of the own stream", () => own.length === 1);
  one.close();
  one.close();
  me.close();
  two.close();
  assert.deepEqual((await peer.take("unsubscribe")).topics, ["a"]);
  client.subscribe("a", () => {});
  assert.deepEqual((await peer.take("subscribe")).topics, { a: null });
});

test("the own stream goes on where it stood: what comes before the gateway has moved it back comes again, in order", async (t) => {
  const { gateway, page } = await world(t);
  const { client, clock, said } = page();
  const own = [];
  client.subscribe("me", (m) => own.push(m.id));
  let peer = await gateway.welcome();
  const event = (n) => ({ type: "message", topic: "user:42", pos: `u.${n}`, id: `m${n}` });
  peer.send(event(11));
  await until("live", () => own.length === 1);
  peer.socket.terminate();
  await until("waiting", () => client.state === "waiting");
  clock.pass(500);
  peer = await gateway.welcome({ topics: { "user:42": "u.14" } });
  peer.send(event(15)); // "from now": 12 to 14 are missing in front of it
  await until("heard", () => said.frame.filter(({ id }) => id === "m15").length === 1);
  const asked = await peer.take("subscribe");
  assert.deepEqual(asked.topics, { "user:42": "u.11" });
  peer.send({ type: "subscribed", ref: asked.ref, topics: { "user:42": "u.11" }, recovered: ["user:42"] });
  peer.send(...[12, 13, 14, 15, 16].map(event));
  await until("all", () => own.length === 6);
  assert.deepEqual(own, ["m11", "m12", "m13", "m14", "m15", "m16"]);
});

test("all of the own stream's history can be asked for, and a place that is none yet is gone on from", async (t) => {
  const { gateway, page } = await world(t);
  const { client, said } = page();
  const own = [];
  client.subscribe("me", (m) => own.push(m.id), { from: "0" });
  const event = (n) => ({ type: "message", topic: "user:42", pos: `u.${n}`, id: `m${n}` });
  let peer = await gateway.welcome({ topics: { "user:42": "0" } });
  peer.send(event(3)); // live, before the gateway has moved the stream to its beginning
  await until("heard", () => said.frame.some(({ id }) => id === "m3"));
  await peer.subscribed({ "user:42": "0" });
  peer.send(...[1, 2, 3].map(event));
  await until("all", () => own.includes("m3"));
  assert.deepEqual(own, ["m1", "m2", "m3"]);

  const other = page(); // a stream that nobody has written to stands at "0", or at a time
  other.client.subscribe("a", () => {});
  peer = await gateway.welcome({ topics: { "user:42": "0" } });
  await peer.subscribed({ a: "-28000000.0" });
  await until("both", () => other.client.state === "open");
  peer.socket.terminate();
  await until("waiting", () => other.client.state === "waiting");
  other.clock.pass(500);
  peer = await gateway.welcome({ topics: { "user:42": "u.1" } });
  peer.send(event(2));
  await until("heard", () => other.said.frame.some(({ id }) => id === "m2"));
  assert.deepEqual((await peer.subscribed({}, { recovered: ["a", "user:42"] })).topics, { a: "-28000000.0", "user:42": "0" });
  peer.send(message("a", 1), event(1), event(2));
  await until("all", () => other.said.message.length === 3);
  assert.deepEqual(other.said.message.map(({ pos }) => pos), ["k.1", "u.1", "u.2"]);
});

test("a refused topic rejects ready and is not asked for again on this connection; a busy one is, after retry_after", async (t) => {
  const { gateway, page } = await world(t);
  const { client, clock, said } = page();
  const no = client.subscribe("no", () => {});
  const busy = client.subscribe("busy", () => {});
  const peer = await gateway.welcome();
  const { ref } = await peer.take("subscribe");
  peer.send({ type: "error", ref, code: "forbidden", topic: "no" }, { type: "error", ref, code: "busy", topic: "busy", retry_after: 3 });
  peer.send({ type: "subscribed", ref, topics: {} });
  await assert.rejects(no.ready, { name: "AllimError", code: "forbidden" });
  await until("both errors", () => said.error.length === 2);
  await assert.rejects(client.subscribe("no", () => {}).ready, { code: "forbidden" });
  clock.pass(4_500);
  assert.deepEqual((await peer.subscribed()).topics, { busy: null });
  await busy.ready;
});

test("a new token opens what was refused, and can end what was allowed", async (t) => {
  const { gateway, page } = await world(t);
  const { client, said } = page();
  const got = [];
  client.subscribe("a", (m) => got.push(m.id));
  client.subscribe("b", () => {}).ready.catch(() => {});
  const peer = await gateway.welcome();
  const { ref } = await peer.take("subscribe");
  peer.send({ type: "error", ref, code: "forbidden", topic: "b" }, { type: "subscribed", ref, topics: { a: "k.0" } });
  peer.send(message("a", 1));
  await until("a", () => got.length === 1);
  const done = client.auth("t2");
  const auth = await peer.take("auth");
  peer.send({ type: "ok", ref: auth.ref }, { type: "welcome", user: "42", topics: { "user:42": "u.10" } }, { type: "error", code: "forbidden", topic: "a" });
  await done;
  assert.deepEqual((await peer.subscribed()).topics, { b: null });
  await until("a is over", () => said.error.length === 2);
});

test("a handler that does not keep up holds at most 1,024 messages; the rest comes again after its place", async (t) => {
  const { gateway, page } = await world(t);
  const { client, said } = page();
  const got = [];
  let release;
  const a = client.subscribe("a", (m) => {
    got.push(m.id);
    if (got.length === 1) return new Promise((resolve) => (release = resolve));
  });
  const peer = await gateway.welcome();
  await peer.subscribed();
  for (let n = 1; n <= 2000; n++) peer.send(message("a", n));
  await until("all arrived", () => said.frame.length === 2002);
  assert.deepEqual(got, ["m1"]);
  release();
  const asked = await peer.take("subscribe");
  assert.deepEqual(asked.topics, { a: "k.1" });
  peer.send(message("a", 2001)); // before the gateway saw it
  peer.send({ type: "subscribed", ref: asked.ref, topics: { a: "k.1" }, recovered: ["a"] });
  for (let n = 2; n <= 2002; n++) peer.send(message("a", n));
  await until("the end", () => a.position === "k.2002");
  assert.deepEqual(got, Array.from({ length: 2002 }, (_, i) => `m${i + 1}`));
});

test("ephemeral messages have no place and are handed on; a page's state comes as it is, older places too", async (t) => {
  const { gateway, page } = await world(t);
  const { client } = page();
  const got = [];
  const a = client.subscribe("a", (m) => got.push(m.data));
  client.subscribe("page:/x", (m) => got.push(m.type + m.version));
  const peer = await gateway.welcome();
  await peer.subscribed();
  peer.send({ type: "message", topic: "a", event: "typing", data: "x" }, { type: "message", topic: "a", event: "typing", data: "x" });
  peer.send({ type: "refresh", topic: "page:/x", pos: "p.9", version: "9" }, { type: "reset", topic: "page:/x", pos: "p.9" });
  peer.send({ type: "state", topic: "page:/x", pos: "p.3", key: "k", version: "3" });
  await until("all", () => got.length === 4);
  assert.deepEqual(got, ["x", "x", "refresh9", "state3"]);
  assert.equal(a.position, "k.0");
});

test("a hundred long topics go out in several subscribe frames, each under the gateway's limit", async (t) => {
  const { gateway, page } = await world(t);
  const names = Array.from({ length: 100 }, (_, i) => `orders/${"x".repeat(240)}${i}`);
  const { client } = page({ topics: names });
  const peer = await gateway.welcome();
  const asked = [];
  while (asked.length < 100) {
    const frame = await peer.subscribed();
    assert.ok(JSON.stringify(frame).length < 16 * 1024);
    asked.push(...Object.keys(frame.topics));
  }
  assert.deepEqual(asked, names);
  assert.equal(client.state, "open");
});

test("another user on the next connection does not go on with the first one's stream", async (t) => {
  const { gateway, page } = await world(t);
  const { client, clock } = page();
  const own = [];
  client.subscribe("me", (m) => own.push(m.topic));
  let peer = await gateway.welcome();
  const pending = assert.rejects(client.inbox.read({ all: true }), { code: "unavailable" });
  peer.send({ type: "notification", topic: "user:42", pos: "u.11", id: "n1" });
  await until("the item", () => client.inbox.items.length === 1);
  peer.socket.terminate();
  await until("waiting", () => client.state === "waiting");
  clock.pass(500);
  peer = await gateway.welcome({ user: "7", topics: { "user:7": "v.3" }, badge: { unread: 2, unseen: 0, rev: "v.3" } });
  await pending;
  assert.deepEqual([client.user, client.inbox.items, client.inbox.badge.unread], ["7", [], 2]);
  client.inbox.seen("n1").catch(() => {});
  await peer.take("seen"); // and nothing before it: no subscribe for user:42
  peer.send({ type: "message", topic: "user:7", pos: "v.4", id: "m4" });
  await until("the other stream", () => own.length === 1);
  assert.deepEqual(own, ["user:7"]);
});

test("positions and ids survive a reload when there is a storage, and one that fails stops nothing", async (t) => {
  const { gateway, page } = await world(t);
  const kept = new Map();
  const storage = { getItem: (key) => kept.get(key) ?? null, setItem: (key, value) => kept.set(key, value) };
  const first = page({ storage });
  const got = [];
  const a = first.client.subscribe("a", (m) => got.push(m.id));
  let peer = await gateway.welcome();
  await peer.subscribed();
  peer.send(message("a", 1), message("a", 2));
  await until("handled", () => a.position === "k.2");
  first.clock.pass(200);
  first.client.close();

  const second = page({ storage });
  second.client.subscribe("a", (m) => got.push(m.id));
  second.client.subscribe("b", (m) => got.push(m.id), { from: null });
  peer = await gateway.welcome();
  assert.deepEqual((await peer.subscribed({}, { recovered: ["a"] })).topics, { a: "k.2", b: null, "user:42": "u.10" });
  peer.send(message("a", 2, { pos: "j.1" }), message("a", 3, { pos: "j.2" }));
  await until("the new one", () => got.length === 3);
  assert.deepEqual(got, ["m1", "m2", "m3"]);
  second.client.close();

  for (const broken of [{ getItem: () => "{", setItem() {} }, { getItem: () => '{"a":7,"b":["k.1"]}', setItem() { throw new Error("full"); } }]) {
    const { client, clock, said } = page({ storage: broken });
    client.subscribe("a", () => {});
    peer = await gateway.welcome();
    assert.equal((await peer.subscribed()).topics.a, null);
    peer.send(message("a", 1));
    await until("a message", () => said.message.length === 1);
    clock.pass(200);
    assert.equal(client.state, "open");
    client.close();
  }
});

test("a handler that leaves, or adds another, while it is called takes nothing from its neighbours", async (t) => {
  const { gateway, page } = await world(t);
  const { client } = page();
  const got = [];
  const once = client.subscribe("a", (m) => {
    got.push("once " + m.id);
    once.close();
    gone.close();
    client.subscribe("a", (m) => got.push("new " + m.id));
  });
  client.subscribe("a", (m) => got.push("stays " + m.id));
  const gone = client.subscribe("a", (m) => got.push("gone " + m.id));
  const peer = await gateway.welcome();
  await peer.subscribed();
  peer.send(message("a", 1), message("a", 2));
  await until("the second", () => got.includes("new m2"));
  assert.deepEqual(got, ["once m1", "stays m1", "stays m2", "new m2"]);
});

test("topics that can not be had now are asked for again when the one with the longest wait may be", async (t) => {
  const { gateway, page } = await world(t);
  const { client, clock, said } = page();
  for (const name of ["a", "b", "c"]) client.subscribe(name, () => {});
  const peer = await gateway.welcome();
  const { ref } = await peer.take("subscribe");
  const waits = { a: 3, b: 21, c: 1 };
  for (const [topic, retry_after] of Object.entries(waits)) peer.send({ type: "error", ref, code: "busy", topic, retry_after });
  peer.send({ type: "subscribed", ref, topics: {} });
  await until("the errors", () => said.error.length === 3);
  clock.pass(31_499); // 21 s and half as much again
  const due = [...clock.timers.values()].filter(({ at }) => at === clock.time + 1);
  assert.equal(due.length, 1, "nothing was asked before");
  clock.pass(1);
  assert.deepEqual((await peer.subscribed()).topics, { a: null, b: null, c: null });
});
