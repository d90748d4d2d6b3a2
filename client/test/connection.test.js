import assert from "node:assert/strict";
import { test } from "node:test";
import { until, world } from "./kit/gateway.js";

const states = (said) => said.state.map(({ state }) => state);

test("connects with the token as a subprotocol, never in the URL, and is open at the welcome", async (t) => {
  const { gateway, page } = await world(t);
  const { client, said } = page({ token: "a.b.c", inbox: 20 });
  const peer = await gateway.accept();
  assert.deepEqual(peer.protocols, ["allim.v1", "bearer.a.b.c"]);
  assert.equal(peer.url.pathname, "/v1/ws");
  assert.match(peer.url.searchParams.get("origin"), /^[A-Za-z0-9_-]{16,32}$/);
  assert.equal(peer.url.searchParams.get("inbox"), "20");
  assert.ok(!peer.url.href.includes("a.b.c"));
  assert.equal(client.state, "connecting");
  peer.send({ type: "welcome", session: "s9", user: "42", topics: {} });
  await until("open", () => client.state === "open");
  assert.deepEqual([client.session, client.user], ["s9", "42"]);
  assert.deepEqual(states(said), ["connecting", "open"]);
});

test("comes back after a random part of a ceiling that grows, keeps its origin, and asks for the list until it came", async (t) => {
  const { gateway, page } = await world(t);
  const { client, clock, said } = page({ inbox: 20 });
  const first = await gateway.welcome();
  await until("open", () => client.state === "open");
  clock.chance = 0.9;
  let origin = first.url.searchParams.get("origin");
  let peer = first;
  for (const wait of [450, 900, 1800]) {
    peer.socket.terminate();
    await until("waiting", () => client.state === "waiting");
    const { code, retryInMs } = said.state.at(-1);
    assert.deepEqual([code, retryInMs], [1006, wait]);
    clock.pass(wait - 1);
    assert.equal(client.state, "waiting");
    clock.pass(1);
    peer = await gateway.welcome();
    assert.equal(peer.url.searchParams.get("origin"), origin);
    assert.equal(peer.url.searchParams.get("inbox"), "20");
    await until("open", () => client.state === "open");
  }
  peer.send({ type: "inbox", items: [], at: {} });
  await until("the list", () => client.inbox.hasMore === false);
  clock.pass(10_000); // it lasted: the next failure is a first one
  peer.socket.terminate();
  await until("waiting", () => client.state === "waiting");
  assert.equal(said.state.at(-1).retryInMs, 450);
  clock.pass(450);
  assert.equal((await gateway.welcome()).url.searchParams.get("inbox"), null);
});

test("4401 comes back with a new token; with none to be had it is final until auth brings one", async (t) => {
  const { gateway, page } = await world(t);
  let n = 0;
  const renewing = page({ token: async () => `t${++n}` });
  let peer = await gateway.welcome();
  assert.equal(peer.protocols[1], "bearer.t1");
  peer.close(4401, "expired");
  await until("waiting", () => renewing.client.state === "waiting");
  renewing.clock.pass(500);
  peer = await gateway.welcome();
  assert.equal(peer.protocols[1], "bearer.t2");
  renewing.client.close();

  const fixed = page({ token: "old" });
  peer = await gateway.welcome();
  peer.close(4401, "expired");
  await until("closed", () => fixed.client.state === "closed");
  assert.deepEqual(fixed.said.state.at(-1), { state: "closed", code: 4401, reason: "expired" });
  await fixed.client.auth("new");
  peer = await gateway.welcome();
  assert.equal(peer.protocols[1], "bearer.new");
  await until("open", () => fixed.client.state === "open");
});

test("45xx is final: nothing is dialled again", async (t) => {
  const { gateway, page } = await world(t);
  for (const code of [4500, 4501, 4503, 4509, 4999]) {
    const { client, clock, said } = page({ token: () => "t" });
    const peer = await gateway.welcome();
    peer.close(code, "no");
    await until("closed", () => client.state === "closed");
    assert.deepEqual(said.state.at(-1), { state: "closed", code, reason: "no" });
    const before = gateway.accepted;
    assert.equal(clock.timers.size, 0, "no timer may be left");
    clock.pass(3_600_000);
    assert.equal(gateway.accepted, before);
  }
});

test("every other code comes back, 4429 and 1013 after a pause, retry_after is kept to", async (t) => {
  const { gateway, page } = await world(t);
  const cases = [[1000, 250], [1001, 250], [1012, 2500], [4408, 250], [4412, 250], [4429, 5250], [1013, 5250]];
  for (const [code, wait] of cases) {
    const { client, said } = page();
    (await gateway.welcome()).close(code);
    await until(`waiting after ${code}`, () => client.state === "waiting");
    assert.equal(said.state.at(-1).retryInMs, wait, `after ${code}`);
    client.close();
  }
  const topic = page();
  const other = await gateway.welcome();
  other.send({ type: "error", code: "busy", topic: "a", retry_after: 12 }); // that topic may wait, the page need not
  other.close(4408);
  await until("waiting", () => topic.client.state === "waiting");
  assert.equal(topic.said.state.at(-1).retryInMs, 250);
  const { client, said } = page();
  const peer = await gateway.welcome();
  peer.send({ type: "error", code: "busy", retry_after: 12 });
  peer.close(4408);
  await until("waiting", () => client.state === "waiting");
  assert.equal(said.state.at(-1).retryInMs, 12_250);
});

test("degraded and restored are told once each, and a new connection says anew how it is", async (t) => {
  const { gateway, page } = await world(t);
  const { client, clock } = page();
  /** @type {string[]} */
  const told = [];
  for (const name of ["degraded", "restored"]) client.on(/** @type {any} */ (name), () => told.push(`${name} ${client.degraded}`));
  const peer = await gateway.welcome();
  assert.equal(client.degraded, false);
  peer.send({ type: "restored" }, { type: "degraded", what: "broker" }, { type: "degraded", what: "broker" });
  await until("degraded", () => told.length === 1);
  peer.send({ type: "restored" }, { type: "degraded", what: "broker" });
  await until("degraded again", () => told.length === 3);
  peer.socket.terminate();
  await until("waiting", () => client.state === "waiting");
  assert.equal(client.degraded, true, "nobody said otherwise");
  clock.pass(250);
  await gateway.welcome();
  await until("restored", () => told.length === 4);
  assert.deepEqual(told, ["degraded true", "restored false", "degraded true", "restored false"]);
});

test("a token that never comes is asked for again", async (t) => {
  const { gateway, page } = await world(t);
  let asked = 0;
  const { client, clock } = page({ token: () => (++asked === 1 ? new Promise(() => {}) : "t") });
  await until("asked", () => asked === 1);
  clock.pass(29_999);
  assert.equal(asked, 1);
  clock.pass(1);
  assert.equal((await gateway.welcome()).protocols[1], "bearer.t");
  await until("open", () => client.state === "open");
});

test("a token that takes longer than that is used when it comes, once, and never for a dial that was given up", async (t) => {
  const { gateway, page } = await world(t);
  /** @type {{resolve: (token: string) => void, reject: (error: Error) => void}[]} */
  const asked = [];
  const slow = () => new Promise((resolve, reject) => asked.push({ resolve, reject }));
  const { client, clock } = page({ token: slow });
  await until("asked", () => asked.length === 1);
  clock.pass(40_000);
  await until("asked again", () => asked.length === 2);
  asked[0].resolve("t0");
  const peer = await gateway.welcome();
  assert.equal(peer.protocols[1], "bearer.t0");
  await until("open", () => client.state === "open");
  asked[1].resolve("t1");
  clock.pass(40_000);
  assert.equal(asked.length, 2);

  peer.socket.terminate();
  await until("waiting", () => client.state === "waiting");
  clock.pass(35_000);
  await until("asked twice", () => asked.length === 4);
  asked[2].reject(new Error("login is down"));
  await until("waiting", () => client.state === "waiting");
  asked[3].resolve("t3"); // its dial has failed: the next one asks itself
  await new Promise((resolve) => setImmediate(resolve));
  clock.pass(1_000);
  await until("asked anew", () => asked.length === 5);
  const fresh = client.auth("other"); // whoever that is: the tokens of before are not theirs
  for (const { resolve } of asked) resolve("late");
  assert.equal((await gateway.welcome()).protocols[1], "bearer.other");
  await fresh;
  await until("open", () => client.state === "open");
  assert.equal(gateway.accepted, 2);
});

test("silence for two pings is asked about, and no answer within 10 s is a lost connection", async (t) => {
  const { gateway, page } = await world(t);
  const { client, clock, said } = page();
  const peer = await gateway.welcome({ ping: 20 });
  await until("open", () => client.state === "open");
  clock.pass(39_999);
  peer.send({ type: "degraded" });
  await until("heard", () => said.frame.some(({ type }) => type === "degraded"));
  clock.pass(39_999); // 40 s since then are not over
  clock.pass(1);
  await peer.take("ping");
  peer.send({ type: "pong" });
  await until("pong", () => said.frame.some(({ type }) => type === "pong"));
  clock.pass(40_000);
  await peer.take("ping");
  assert.equal(client.state, "open");
  clock.pass(10_000);
  assert.equal(client.state, "waiting");
  assert.deepEqual([said.state.at(-1).code, said.state.at(-1).reason], [1006, "no pong"]);
});

test("a gateway that is not there is dialled again and again", async (t) => {
  const { gateway, page } = await world(t);
  const { url } = gateway;
  await new Promise((resolve) => gateway.server.close(resolve));
  const { client, clock, said } = page({ url });
  for (const wait of [250, 500, 1000]) {
    await until("waiting", () => client.state === "waiting");
    assert.equal(said.state.at(-1).retryInMs, wait);
    clock.pass(wait);
    assert.equal(client.state, "connecting");
  }
});

test("a gateway that accepts and says nothing is left after 20 s", async (t) => {
  const { gateway, page } = await world(t);
  const { client, clock } = page();
  await gateway.accept();
  clock.pass(19_999);
  assert.equal(client.state, "connecting");
  clock.pass(1);
  assert.equal(client.state, "waiting");
});

test("expiring brings a new token in band; auth by the page is answered or refused", async (t) => {
  const { gateway, page } = await world(t);
  let n = 0;
  const { client, said } = page({ token: () => `t${++n}`, origin: "0123456789abcdef" });
  const peer = await gateway.welcome();
  peer.send({ type: "expiring", in: 60 });
  const auth = await peer.take("auth");
  assert.deepEqual([auth.token, auth.origin], ["t2", "0123456789abcdef"]);
  peer.send({ type: "ok", ref: auth.ref }, { type: "welcome", session: "s1", user: "42", topics: { "user:42": "u.10", "orders/new": "k.3" } });
  await until("the second welcome", () => said.welcome.length === 2);
  peer.send({ type: "message", topic: "orders/new", pos: "k.4", id: "m4" });
  await until("a topic that the new token brought", () => said.message.length === 1);
  const refused = assert.rejects(client.auth("other user"), { name: "AllimError", code: "forbidden" });
  const second = await peer.take("auth");
  peer.send({ type: "error", ref: second.ref, code: "forbidden" });
  await refused;
  assert.equal(gateway.accepted, 1);
});

test("a page without a token may bring one before the welcome", async (t) => {
  const { gateway, page } = await world(t);
  const { client } = page();
  const peer = await gateway.accept();
  await until("the socket is open", () => client.state === "connecting" && peer.socket.readyState === 1);
  assert.deepEqual(peer.protocols, ["allim.v1"]);
  peer.send({ type: "error", code: "unauthorized" });
  const seen = new Promise((resolve) => client.on("error", resolve));
  await seen;
  const done = client.auth("late");
  const auth = await peer.take("auth");
  assert.equal(auth.token, "late");
  peer.send({ type: "ok", ref: auth.ref }, { type: "welcome", user: "42", topics: { "user:42": "u.1" } });
  await done;
  await until("open", () => client.state === "open");
});

test("a token that can not be fetched is a failure like others: wait, then ask again", async (t) => {
  const { gateway, page } = await world(t);
  let fails = 2;
  const { client, clock, log } = page({
    token: async () => {
      if (fails-- > 0) throw new Error("login is down");
      return "t";
    },
  });
  for (const wait of [250, 500]) {
    await until("waiting", () => client.state === "waiting");
    clock.pass(wait);
  }
  assert.equal((await gateway.welcome()).protocols[1], "bearer.t");
  assert.equal(log.filter(({ event }) => event === "error").length, 2);
});

test("frames that can not be read are ignored, unknown types reach on(frame) alone", async (t) => {
  const { gateway, page } = await world(t);
  const { client, said, log } = page();
  const peer = await gateway.welcome();
  peer.send("Hello page!", "[1]", "null", '{"type":5}', '{"type":"message"}', '{"type":"badge","badge":"x"}');
  peer.socket.send(Buffer.from([1, 2, 3]), { binary: true });
  peer.send({ type: "allim:new", x: 1 }, { type: "degraded" });
  await until("the last frame", () => said.frame.some(({ type }) => type === "degraded"));
  assert.deepEqual(said.frame.map(({ type }) => type), ["welcome", "allim:new", "degraded"]);
  assert.equal(log.filter(({ event }) => event === "bad_frame").length, 7);
  assert.equal(client.state, "open");
});

test("close leaves at once, for good, and takes every timer along; a closed client can not be woken by auth", async (t) => {
  const { gateway, page } = await world(t);
  const { client, clock, said } = page();
  const peer = await gateway.welcome();
  await until("open", () => client.state === "open");
  const mark = client.inbox.read("n1");
  client.close();
  await assert.rejects(mark, { code: "unavailable" });
  assert.equal(await peer.closed, 1000);
  assert.equal(clock.timers.size, 0);
  await client.auth("t");
  assert.equal(client.state, "closed");
  assert.deepEqual(states(said), ["connecting", "open", "closed"]);
  assert.equal(gateway.accepted, 1);
});

test("importing does nothing, and where there is no WebSocket connect says so", async () => {
  const { connect } = await import("../src/index.js");
  assert.throws(() => connect({ url: "http://h/v1/ws" }), /there is no WebSocket here/);
});
