import assert from "node:assert/strict";
import { test } from "node:test";
import { item, notification, until, world } from "./kit/gateway.js";

/** A page of user 42 that is told each choice of muted categories. */
async function opened(t) {
  const { gateway, page } = await world(t);
  const it = page();
  const chosen = [];
  it.client.on("preferences", ({ mute }) => chosen.push(mute.join()));
  const peer = await gateway.welcome();
  await until("open", () => it.client.state === "open");
  return { gateway, peer, chosen, inbox: it.client.inbox, ...it };
}

const event = (n, mute, more = {}) => ({ type: "preferences", topic: "user:42", pos: `u.${n}`, mute, ...more });

test("a page asks what is muted, mutes, and hears what other devices mute", async (t) => {
  const { peer, inbox, chosen, said } = await opened(t);
  const asked = inbox.preferences();
  const { ref, ...question } = await peer.take("preferences");
  assert.deepEqual(question, { type: "preferences" });
  peer.send(event(10, ["order"], { ref }));
  assert.deepEqual(await asked, { mute: ["order"] });

  const done = inbox.mute(["mention", "order"]);
  const { ref: second, ...wish } = await peer.take("preferences");
  assert.deepEqual(wish, { type: "preferences", mute: ["mention", "order"] });
  peer.send(event(11, ["mention", "order"], { mine: true }), { type: "ok", ref: second, pos: "u.11" });
  assert.equal(await done, undefined);
  peer.send(event(12, []), event(11, ["order"]), notification(13)); // another device, then one that comes again
  await until("what follows", () => said.notification.length === 1);
  assert.deepEqual(chosen, ["order", "mention,order", ""]);
});

test("an answer that a newer choice has overtaken changes nothing, and moves no place in the stream", async (t) => {
  const { gateway, peer, inbox, chosen, client, clock, said } = await opened(t);
  const asked = inbox.preferences();
  const { ref } = await peer.take("preferences");
  peer.send(event(11, ["mention"]), event(10, [], { ref }));
  assert.deepEqual(await asked, { mute: ["mention"] }, "what was answered is older than what came");
  const again = inbox.preferences();
  const { ref: other } = await peer.take("preferences");
  peer.send(event(14, ["order"], { ref: other })); // 12 and 13 are still on their way
  assert.deepEqual(await again, { mute: ["order"] });
  peer.send(event(13, ["x"])); // contained in the answer
  await until("it came", () => said.frame.some(({ pos }) => pos === "u.13"));
  peer.socket.terminate();
  await until("waiting", () => client.state === "waiting");
  clock.pass(500);
  const next = await gateway.welcome({ topics: { "user:42": "u.14" } });
  assert.deepEqual((await next.subscribed()).topics, { "user:42": "u.13" });
  assert.deepEqual(chosen, ["mention", "order"]);
});

test("a refusal rejects; after a reset who asked once is told anew, who never asked is not", async (t) => {
  const { peer, inbox, chosen } = await opened(t);
  peer.send({ type: "reset", topic: "user:42", pos: "v.3", reason: "history_lost" });
  const done = inbox.mute(["A B"]);
  const { ref } = await peer.take("preferences"); // the first of that type: the reset asked for nothing
  peer.send({ type: "error", ref, code: "bad_frame", message: "mute[0]: expected 1 to 32 of a-z 0-9 _ . -" });
  await assert.rejects(done, { code: "bad_frame" });
  assert.deepEqual(chosen, []);

  peer.send(event(4, ["order"], { pos: "v.4" }));
  await until("the choice", () => chosen.length === 1);
  peer.send({ type: "reset", topic: "user:42", pos: "w.9", reason: "history_lost" }, { type: "reset", topic: "segment:x", pos: "s.1" });
  const { ref: asked } = await peer.take("preferences");
  peer.send(event(9, ["mention"], { ref: asked, pos: "w.9" }));
  await until("the choice that was lost", () => chosen.at(-1) === "mention");
});

test("items of a segment that a new token no longer names go, as do another user's choices", async (t) => {
  const { gateway, page } = await world(t);
  const { client } = page({ inbox: 20 });
  const topics = { "user:42": "u.10", "segment:a": "s.1", "segment:b": "s.1" };
  const peer = await gateway.welcome({ topics });
  peer.send({ type: "inbox", items: [item(3), item(2, { topic: "segment:a" }), item(1, { topic: "segment:b" })], at: topics });
  await until("the list", () => client.inbox.items.length === 3);
  peer.send(event(11, ["order"]));
  client.auth("t2");
  const { ref } = await peer.take("auth");
  peer.send({ type: "ok", ref }, { type: "welcome", session: "s1", user: "42", topics: { "user:42": "u.11", "segment:b": "s.1" } });
  await until("it went", () => client.inbox.items.length === 2);
  assert.deepEqual(client.inbox.items.map(({ topic }) => topic), ["user:42", "segment:b"]);

  client.auth("t3");
  const { ref: third } = await peer.take("auth");
  peer.send({ type: "ok", ref: third }, { type: "welcome", session: "s1", user: "7", topics: { "user:7": "q.1" } });
  await until("another user", () => client.user === "7");
  const asked = client.inbox.preferences();
  const { ref: fourth } = await peer.take("preferences");
  peer.send({ type: "preferences", ref: fourth, topic: "user:7", pos: "q.1", mute: [] });
  assert.deepEqual(await asked, { mute: [] });
});
