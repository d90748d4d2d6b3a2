// What the browser does to a page: its network comes and goes, it is looked at or not, its clock is set.
import assert from "node:assert/strict";
import { test } from "node:test";
import { browser } from "./kit/browser.js";
import { message, until, world } from "./kit/gateway.js";
import { scripted } from "./kit/socket.js";

test("a clock that is set back makes no pause longer", async (t) => {
  const { gateway, page } = await world(t);
  const { client, said } = page({ clock: undefined });
  const peer = await gateway.welcome();
  await until("open", () => client.state === "open");
  peer.send({ type: "error", code: "busy", retry_after: 5 });
  await until("the pause", () => said.error.length === 1);
  t.mock.method(Date, "now", () => 0);
  peer.socket.terminate();
  // until() has a deadline by Date, too: the close comes within some turns
  const wait = () => said.state.find(({ state }) => state === "waiting");
  for (let n = 0; n < 1_000_000 && !wait(); n++) await new Promise((resolve) => setImmediate(resolve));
  const { retryInMs } = wait();
  assert.ok(retryInMs > 0 && retryInMs <= 5_500, `it waits ${retryInMs} ms`);
});

test("a laptop that slept asks within 5 s of waking whether the gateway is still there, though its timers stood still", async (t) => {
  const { page } = await world(t);
  const Socket = scripted();
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { client, said } = page({ clock: undefined, WebSocket: Socket });
  await until("dialled", () => Socket.all.length === 1);
  const [socket] = Socket.all;
  socket.open();
  socket.receive({ type: "welcome", ping: 25 });
  assert.equal(client.state, "open");
  for (let n = 0; n < 3; n++) t.mock.timers.tick(5_000);
  assert.deepEqual(socket.sent, []);
  const awake = Date.now;
  t.mock.method(Date, "now", () => awake() + 51_000);
  t.mock.timers.tick(5_000);
  assert.deepEqual(socket.sent, [{ type: "ping" }]);
  t.mock.timers.tick(10_000);
  assert.equal(said.state.at(-1).reason, "no pong");
});

test("the browser's online, pageshow and visibilitychange cut a wait short, but never a pause", async (t) => {
  const { gateway, page } = await world(t);
  const target = browser(t);
  const doc = target.document;
  const { client, clock } = page();
  for (const [on, name] of [[target, "online"], [target, "pageshow"], [doc, "visibilitychange"]]) {
    const lost = await gateway.welcome();
    await until("open", () => client.state === "open");
    clock.pass(1_000); // since the last dial
    lost.socket.terminate();
    await until("waiting", () => client.state === "waiting");
    clock.pass(1);
    on.dispatchEvent(new Event(name));
    assert.equal(client.state, "connecting", name);
  }
  const peer = await gateway.welcome();
  await until("open", () => client.state === "open");
  await peer.subscribed();
  target.dispatchEvent(new Event("online")); // after a sleep: does the gateway still answer?
  await peer.take("ping");
  peer.close(4429);
  await until("waiting", () => client.state === "waiting");
  clock.pass(2_000);
  target.dispatchEvent(new Event("online"));
  assert.equal(client.state, "waiting");
});

test("the network that is back right after a dial failed is not left to the backoff", async (t) => {
  const { gateway, page } = await world(t);
  const target = browser(t);
  const { client, clock, said } = page();
  clock.chance = 0.99;
  for (let n = 0; n < 4; n++) {
    (await gateway.accept()).socket.terminate();
    await until("waiting", () => client.state === "waiting");
    if (n < 3) clock.pass(said.state.at(-1).retryInMs);
  }
  assert.ok(said.state.at(-1).retryInMs > 3_000);
  clock.pass(300);
  target.dispatchEvent(new Event("online"));
  assert.equal(client.state, "waiting", "two dials are a second apart");
  clock.pass(699);
  assert.equal(client.state, "waiting");
  clock.pass(1);
  assert.equal(client.state, "connecting");
});

test("a page that is shown while its token is fetched does not ask for another", async (t) => {
  const { gateway, page } = await world(t);
  const target = browser(t);
  let asked = 0;
  let fetched;
  const { client, clock } = page({ token: () => new Promise((resolve) => ++asked && (fetched = resolve)) });
  await until("asked", () => asked === 1);
  for (const ms of [500, 5_000]) {
    target.dispatchEvent(new Event("pageshow"));
    clock.pass(ms);
  }
  fetched("t");
  assert.equal((await gateway.welcome()).protocols[1], "bearer.t");
  await until("open", () => client.state === "open");
  assert.equal(asked, 1);
});

test("a page that was frozen asks its gateway when it is shown again, and leaves one that is gone", async (t) => {
  const { gateway, page } = await world(t);
  const target = browser(t);
  const { client, clock, said } = page();
  const peer = await gateway.welcome();
  await until("open", () => client.state === "open");
  clock.time += 3_600_000; // no timer ran meanwhile
  target.dispatchEvent(new Event("pageshow"));
  await peer.take("ping");
  clock.pass(0); // the timers that fell due wait for the answer, too
  assert.equal(client.state, "open");
  clock.pass(10_000);
  assert.equal(client.state, "waiting");
  assert.equal(said.state.at(-1).reason, "no pong");
});

test("what a handler had not finished when the page went comes again in its next life", async (t) => {
  const { gateway, page } = await world(t);
  const target = browser(t);
  const kept = new Map();
  const storage = { getItem: (key) => kept.get(key) ?? null, setItem: (key, value) => kept.set(key, value) };
  const got = [];
  let release;
  const first = page({ storage });
  const a = first.client.subscribe("a", (m) => {
    got.push(m.id);
    if (m.id === "m2") return new Promise((resolve) => (release = resolve));
  });
  let peer = await gateway.welcome();
  await peer.subscribed();
  peer.send(message("a", 1), message("a", 2));
  await until("it is at the second", () => got.length === 2);
  assert.equal(a.position, "k.1");
  target.dispatchEvent(new Event("pagehide"));
  peer.socket.terminate();
  await until("gone", () => first.client.state === "waiting");
  first.client.close();

  const second = page({ storage });
  const again = [];
  second.client.subscribe("a", (m) => again.push(m.id));
  peer = await gateway.welcome();
  assert.equal((await peer.subscribed({}, { recovered: ["a"] })).topics.a, "k.1");
  peer.send(message("a", 2), message("a", 3));
  await until("the rest", () => again.includes("m3"));
  assert.deepEqual(again, ["m2", "m3"]);
  release();
});
