// Moves: a gateway that stops asks its pages to connect elsewhere, and they let go of it when the other one speaks.
import assert from "node:assert/strict";
import { test } from "node:test";
import { until, world } from "./kit/gateway.js";
import { scripted } from "./kit/socket.js";

const states = (said) => said.state.map(({ state }) => state);

test("move opens the new connection before it lets go of the old one, and what was unanswered is asked again", async (t) => {
  const { gateway, page } = await world(t);
  const { client, clock, said } = page();
  const old = await gateway.welcome();
  await until("open", () => client.state === "open");
  let oldClosed = false;
  old.closed.then(() => (oldClosed = true));
  const mark = client.inbox.read({ all: true });
  const asked = await old.take("read");
  old.send({ type: "move", after_ms: 4200 });
  await until("the move", () => said.frame.some(({ type }) => type === "move"));
  clock.pass(4199);
  assert.ok([...clock.timers.values()].some(({ at }) => at === clock.time + 1), "the dial is not due yet");
  clock.pass(1);
  const next = await gateway.accept();
  old.send({ type: "message", topic: "user:42", pos: "u.11", id: "m11" });
  await until("the old one still serves", () => said.message.length === 1);
  assert.equal(oldClosed, false);
  next.send({ type: "welcome", session: "s2", user: "42", topics: { "user:42": "u.11" } });
  await old.closed;
  assert.equal((await next.take("subscribe")).topics["user:42"], "u.11");
  assert.deepEqual(await next.take("read"), asked);
  next.send({ type: "ok", ref: asked.ref, changed: 0 });
  await mark;
  assert.deepEqual(states(said), ["connecting", "open", "open"]);
  assert.equal(client.session, "s2");
});

test("who was asked to move and is closed with 1012 comes back as after any drop", async (t) => {
  const { gateway, page } = await world(t);
  const { client, said } = page();
  const peer = await gateway.welcome();
  peer.send({ type: "move", after_ms: 60_000 });
  await until("the move", () => said.frame.some(({ type }) => type === "move"));
  peer.close(1012);
  await until("waiting", () => client.state === "waiting");
  assert.equal(said.state.at(-1).retryInMs, 250);
});

test("a move that fails leaves the old connection in use and is tried again", async (t) => {
  const { gateway, page } = await world(t);
  const { client, clock, said } = page();
  const old = await gateway.welcome();
  old.send({ type: "move", after_ms: 0 });
  await until("the move", () => said.frame.some(({ type }) => type === "move"));
  clock.pass(0);
  const failing = await gateway.accept();
  failing.socket.terminate();
  await until("another try is set", () => [...clock.timers.values()].some(({ at }) => at - clock.time === 250));
  assert.equal(client.state, "open");
  clock.pass(250);
  await gateway.welcome({ session: "s2" });
  await until("moved", () => client.session === "s2");
  assert.equal(await old.closed, 1000);
});

test("a gateway that is full is not dialled again before the time it names, by who moves neither", async (t) => {
  const { gateway, page } = await world(t);
  for (const [code, frames, wait] of [
    [1013, [{ type: "error", code: "busy", retry_after: 20 }], 20_250],
    [4408, [{ type: "error", code: "busy", retry_after: 20 }], 20_250],
    [1013, [], 5_250],
    [4429, [], 5_250],
    [1012, [], 250],
  ]) {
    const { client, clock, log, said } = page();
    const old = await gateway.welcome();
    await until("open", () => client.state === "open");
    old.send({ type: "move", after_ms: 0 });
    await until("the move", () => said.frame.some(({ type }) => type === "move"));
    clock.pass(0);
    const full = await gateway.accept();
    full.send(...frames);
    full.close(code);
    await until("it was refused", () => log.some(({ event }) => event === "close"));
    assert.equal(client.state, "open", "the old connection holds");
    assert.ok([...clock.timers.values()].some(({ at }) => at - clock.time === wait), `dialled again ${wait} ms after ${code}`);
    old.send({ type: "move", after_ms: 0 }, { type: "degraded" });
    await until("it is asked once more", () => said.frame.at(-1).type === "degraded");
    clock.pass(0);
    assert.ok([...clock.timers.values()].some(({ at }) => at - clock.time === wait), "that changes nothing");
    assert.equal(said.error.length, 0, "what a connection says that is not ours is nothing to the page");
    if (wait > 5_250) {
      old.close(1012);
      await until("waiting", () => client.state === "waiting");
      assert.ok(said.state.at(-1).retryInMs > 20_000, "nor is it when the old connection ends meanwhile");
    }
    client.close();
  }
});

test("a move after a long life begins with the shortest wait, and one that succeeded leaves no failures behind", async (t) => {
  const { gateway, page } = await world(t);
  const { client, clock, log, said } = page();
  for (const wait of [250, 500, 1000]) {
    const short = await gateway.welcome();
    await until("open", () => client.state === "open");
    short.socket.terminate();
    await until("waiting", () => client.state === "waiting");
    assert.equal(said.state.at(-1).retryInMs, wait);
    clock.pass(wait);
  }
  let live = await gateway.welcome();
  await until("open", () => client.state === "open");
  clock.pass(10_000);
  live.send({ type: "move", after_ms: 0 });
  await until("the move", () => said.frame.some(({ type }) => type === "move"));
  clock.pass(0);
  for (const wait of [250, 500]) {
    const ends = log.filter(({ event }) => event === "close").length;
    (await gateway.accept()).socket.terminate();
    await until("the dial failed", () => log.filter(({ event }) => event === "close").length > ends);
    assert.ok([...clock.timers.values()].some(({ at }) => at - clock.time === wait), `tried again after ${wait} ms`);
    clock.pass(wait);
  }
  live = await gateway.welcome({ session: "s2" });
  await until("moved", () => client.session === "s2");
  live.socket.terminate();
  await until("waiting", () => client.state === "waiting");
  assert.equal(said.state.at(-1).retryInMs, 250);
});

test("a move that is refused for good leaves the page where it is as long as that lasts", async (t) => {
  const { gateway, page } = await world(t);
  for (const code of [4503, 4401]) {
    const { client, clock, log, said } = page({ token: "fixed" });
    const old = await gateway.welcome();
    await until("open", () => client.state === "open");
    old.send({ type: "move", after_ms: 0 });
    await until("the move", () => said.frame.some(({ type }) => type === "move"));
    clock.pass(0);
    (await gateway.accept()).close(code);
    await until("it was refused", () => log.some(({ event }) => event === "close"));
    assert.equal(client.state, "open");
    const before = gateway.accepted;
    clock.pass(40_000);
    assert.equal(client.state, "open");
    assert.equal(gateway.accepted, before, "nothing is dialled that would be refused again");
    old.close(1012);
    await until("waiting", () => client.state === "waiting");
    client.close();
  }
});

test("a token that ends in the middle of a move is replaced, on whichever connection that is seen", async (t) => {
  const { gateway, page } = await world(t);
  let n = 0;
  const { client, clock, said } = page({ token: () => `t${++n}` });
  const old = await gateway.welcome();
  await until("open", () => client.state === "open");
  old.send({ type: "move", after_ms: 0 });
  await until("the move", () => said.frame.some(({ type }) => type === "move"));
  clock.pass(0);
  const next = await gateway.accept();
  assert.equal(next.protocols[1], "bearer.t2");
  old.send({ type: "expiring", in: 1 });
  assert.equal((await old.take("auth")).token, "t3");
  old.close(4401, "expired"); // the answer came too late
  await until("the old one is gone", () => client.state === "connecting");
  next.close(4401, "expired");
  await until("waiting", () => client.state === "waiting");
  clock.pass(said.state.at(-1).retryInMs);
  const last = await gateway.welcome({ session: "s3" });
  assert.equal(last.protocols[1], "bearer.t4");
  await until("open again", () => client.session === "s3");
});

test("a token that auth brings while a dial is under way is the one that counts", async (t) => {
  const { gateway, page } = await world(t);
  const WebSocket = scripted();
  const { all } = WebSocket;
  const first = page({ token: "old", WebSocket });
  await until("a dial", () => all.length === 1);
  await first.client.auth("new");
  await until("another", () => all.length === 2);
  assert.deepEqual(all.map(({ protocols }) => protocols[1]), ["bearer.old", "bearer.new"]);
  assert.equal(all[0].readyState, 2, "the dial with the old one is given up");
  all[1].open();
  all[1].receive({ type: "welcome", session: "s1", topics: {} });
  assert.equal(first.client.session, "s1");

  // the same while it moves: the old connection is told, too
  const { client, clock, log, said } = page({ token: "old" });
  const old = await gateway.welcome();
  await until("open", () => client.state === "open");
  old.send({ type: "move", after_ms: 0 });
  await until("the move", () => said.frame.some(({ type }) => type === "move"));
  clock.pass(0);
  const stale = await gateway.accept();
  assert.equal(stale.protocols[1], "bearer.old");
  await until("it is open, and has no welcome", () => log.filter(({ event }) => event === "open").length === 2);
  const done = client.auth("new");
  assert.equal((await old.take("auth")).token, "new");
  const next = await gateway.accept();
  assert.equal(next.protocols[1], "bearer.new");
  next.send({ type: "welcome", session: "s2", user: "42", topics: {} });
  await done; // the welcome of a connection with that token is the answer
  await old.closed;
});
