// A socket's `error`: the end of an attempt, with or without a `close` after it.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:http";
import { test } from "node:test";
import { createInterface } from "node:readline";
import { WebSocketServer } from "ws";
import { Peer, until, world } from "./kit/gateway.js";
import { scripted } from "./kit/socket.js";

const LATE_MS = 100; // how long a `close` may come after its `error`
const welcome = { type: "welcome", session: "s1", user: "42", ping: 25, topics: {} };
const states = (said) => said.state.map(({ state }) => state);

/** A page on Node's own WebSocket; what it says comes into `states`. */
function nodePage(t, url) {
  const flags = globalThis.WebSocket ? [] : ["--experimental-websocket"]; // Node 20 has it behind a flag
  const script = new URL("kit/page.js", import.meta.url).pathname;
  const page = spawn(process.execPath, ["--no-warnings", ...flags, script, url], { stdio: ["ignore", "pipe", "inherit"] });
  t.after(() => page.kill());
  const states = [];
  createInterface({ input: page.stdout }).on("line", (line) => states.push(JSON.parse(line)));
  return { states, failed: () => states.filter(({ state }) => state === "waiting") };
}

/** A server on a port of its own; gives its URL. */
async function listening(server) {
  await once(server.listen(0, "127.0.0.1"), "listening");
  return `http://127.0.0.1:${server.address().port}/v1/ws`;
}

test("Node's own WebSocket: a dial that nobody answers is over at once and tried again", async (t) => {
  const nobody = createServer();
  const url = await listening(nobody);
  await new Promise((resolve) => nobody.close(resolve));
  const page = nodePage(t, url);
  await until("three dials have failed", () => page.failed().length >= 3);
  assert.deepEqual(page.failed().map(({ code }) => code).slice(0, 3), [1006, 1006, 1006]);
  assert.deepEqual(page.states.slice(0, 4).map(({ state }) => state), ["connecting", "waiting", "connecting", "waiting"]);
});

test("Node's own WebSocket: a gateway that answers 503 until it is ready is reached", async (t) => {
  let ready = false;
  const sockets = new WebSocketServer({ noServer: true });
  const server = createServer().on("upgrade", (request, socket, head) => {
    if (!ready) return socket.end("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    sockets.handleUpgrade(request, socket, head, (upgraded) => new Peer(upgraded, request).send(welcome));
  });
  t.after(() => {
    for (const socket of sockets.clients) socket.terminate();
    server.close();
  });
  const page = nodePage(t, await listening(server));
  await until("two dials have failed", () => page.failed().length >= 2);
  ready = true;
  await until("open", () => page.states.at(-1).state === "open");
});

test("ws: `error` and `close` of a refused dial are one end", async (t) => {
  const { gateway, page } = await world(t);
  const { url } = gateway;
  await new Promise((resolve) => gateway.server.close(resolve));
  const { client, clock, log, said } = page({ url });
  await until("waiting", () => client.state === "waiting");
  assert.equal(clock.timers.size, 1, "the next dial alone");
  clock.pass(LATE_MS);
  assert.deepEqual(states(said), ["connecting", "waiting"]);
  assert.equal(log.filter(({ event }) => event === "close").length, 1);
});

/** A page on a scripted socket that was dialled; with `open`, it had its welcome. */
async function dialled(t, { open = false, ...options } = {}) {
  const { page } = await world(t);
  const WebSocket = scripted();
  const given = page({ WebSocket, ...options });
  await until("a dial", () => WebSocket.all.length === 1);
  const [socket] = WebSocket.all;
  if (open) socket.open();
  if (open) socket.receive(welcome);
  return { ...given, socket, sockets: WebSocket.all, ends: () => given.log.filter(({ event }) => event === "close") };
}

test("`error` without `close` is the end after a short wait, once, whatever comes late", async (t) => {
  const { client, clock, said, socket, sockets, ends } = await dialled(t);
  socket.fail();
  clock.pass(LATE_MS / 2);
  socket.fail(); // a second one makes the wait no longer
  clock.pass(LATE_MS / 2 - 1);
  assert.equal(client.state, "connecting");
  clock.pass(1);
  assert.deepEqual(said.state.at(-1), { state: "waiting", code: 1006, reason: "error", retryInMs: 250 });
  assert.equal(clock.timers.size, 1, "the next dial alone");
  socket.open();
  socket.receive(welcome);
  socket.end(4501, "late");
  socket.fail();
  assert.equal(client.state, "waiting");
  assert.equal(ends().length, 1);
  clock.pass(250);
  await until("another dial", () => sockets.length === 2);
  sockets[1].fail();
  clock.pass(LATE_MS);
  assert.equal(said.state.at(-1).retryInMs, 500, "the backoff grows by one");
});

test("a `close` after `error` brings its code and reason", async (t) => {
  const cases = [[4401, "closed"], [4403, "waiting"], [4503, "closed"], [4429, "waiting"], [1006, "waiting"]];
  for (const open of [false, true]) {
    for (const [code, state] of cases) {
      for (const late of [0, LATE_MS - 1]) {
        const { client, clock, said, socket, ends } = await dialled(t, { token: "fixed", open });
        socket.fail();
        clock.pass(late);
        socket.end(code, "told");
        const { retryInMs, ...end } = said.state.at(-1);
        assert.deepEqual(end, { state, code, reason: "told" });
        assert.equal(retryInMs, { closed: undefined, waiting: code === 4429 ? 5250 : 250 }[state], `after ${code}`);
        assert.equal(clock.timers.size, state === "closed" ? 0 : 1, "no timer of the socket may be left");
        assert.equal(ends().length, 1);
        client.close();
      }
    }
  }
});

test("an open socket that fails is not written to, heard or asked any more", async (t) => {
  const target = new EventTarget();
  const names = { document: new EventTarget(), addEventListener: target.addEventListener.bind(target), removeEventListener() {} };
  Object.assign(globalThis, names);
  const { client, clock, said, socket } = await dialled(t, { open: true });
  t.after(() => Object.keys(names).forEach((name) => delete globalThis[name])); // the page was closed before
  const sent = socket.sent.length;
  socket.fail();
  target.dispatchEvent(new Event("online"));
  const mark = client.inbox.read("n1");
  mark.catch(() => {}); // the end of the test
  socket.receive(welcome);
  assert.deepEqual([socket.sent.length, said.welcome.length], [sent, 1]);
  clock.pass(LATE_MS);
  assert.deepEqual(states(said), ["connecting", "open", "waiting"]);
});

test("closing between `error` and `close` leaves nothing behind", async (t) => {
  for (const open of [false, true]) {
    const { client, clock, said, socket, sockets } = await dialled(t, { open });
    socket.fail();
    client.close();
    assert.equal(clock.timers.size, 0);
    socket.end(1006);
    clock.pass(60_000);
    assert.deepEqual(states(said), open ? ["connecting", "open", "closed"] : ["connecting", "closed"]);
    assert.equal(sockets.length, 1);
  }
});

test("giving up a dial is one end, though undici answers it with `error`", async (t) => {
  const slow = await dialled(t);
  slow.clock.pass(20_000); // no welcome
  assert.equal(slow.said.state.at(-1).reason, "no welcome");
  assert.equal(slow.clock.timers.size, 1, "the next dial alone");
  assert.equal(slow.ends().length, 1);
  const left = await dialled(t);
  left.client.close();
  assert.equal(left.clock.timers.size, 0);
  assert.deepEqual(states(left.said), ["connecting", "closed"]);
});

test("a move whose dial fails without `close` leaves the old connection in use and is tried again", async (t) => {
  const { client, clock, said, socket, sockets } = await dialled(t, { open: true });
  socket.receive({ type: "move", after_ms: 0 });
  clock.pass(0);
  await until("the dial of the move", () => sockets.length === 2);
  sockets[1].fail();
  clock.pass(LATE_MS + 250);
  await until("another try", () => sockets.length === 3);
  sockets[2].open();
  sockets[2].receive({ ...welcome, session: "s2" });
  assert.equal(client.session, "s2");
  assert.deepEqual(states(said), ["connecting", "open", "open"]);
});
