// A gateway's HTTP side that a test answers for, and a browser's push manager with its rules.
import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { test } from "node:test";
import vm from "node:vm";
import { connect } from "../src/index.js";
import { scripted } from "./kit/socket.js";

/** A page beside a gateway that answers each request with the next of `answers`: [status, body]; `asked` are the requests. */
async function opened(t, answers, options = {}) {
  const asked = [];
  const server = createServer(async (request, response) => {
    let body = "";
    for await (const part of request) body += part;
    const { authorization, "content-type": type } = request.headers;
    asked.push({ what: `${request.method} ${request.url}`, authorization, type, body: body && JSON.parse(body) });
    const [status, answer] = answers.shift();
    response.writeHead(status, { "Content-Type": "application/json" }).end(answer);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { path = "/v1/ws", ...rest } = options;
  const url = `http://127.0.0.1:${server.address().port}${path}`;
  const client = connect({ url, WebSocket: scripted(), token: () => "t1", ...rest });
  const close = () => new Promise((resolve) => (server.closeAllConnections(), server.close(resolve)));
  t.after(() => (client.close(), close()));
  return { client, asked, close };
}

/** A service worker's registration whose browser holds one subscription, with the key that it was made for. */
function browser(key) {
  const push = "https://push.example.com/";
  const it = { key, ended: 0, asked: [] };
  const subscription = () =>
    it.key && {
      endpoint: push + it.key,
      toJSON: () => ({ endpoint: push + it.key, keys: { p256dh: "p", auth: "a" } }),
      unsubscribe: async () => (it.ended++, (it.key = undefined), true),
    };
  it.registration = {
    pushManager: {
      getSubscription: async () => subscription() ?? null,
      async subscribe(options) {
        it.asked.push(options);
        if (it.denied) throw Object.assign(new Error("no"), { name: "NotAllowedError" });
        if (it.key && it.key !== options.applicationServerKey) throw Object.assign(new Error("another key"), { name: "InvalidStateError" });
        it.key = options.applicationServerKey;
        return subscription();
      },
    },
  };
  return it;
}

const key = [200, '{"public_key":"k1"}'];
const ok = [200, '{"type":"ok"}'];
const wanted = { subscription: { endpoint: "https://push.example.com/k1", keys: { p256dh: "p", auth: "a" } } };
const bearer = { authorization: "Bearer t1" };

test("a browser subscribes with the gateway's key, and says where it is pushed to", async (t) => {
  const { client, asked } = await opened(t, [key, ok]);
  const it = browser();
  const subscription = await client.push.subscribe(it.registration);
  assert.equal(subscription.endpoint, "https://push.example.com/k1");
  assert.deepEqual(it.asked, [{ userVisibleOnly: true, applicationServerKey: "k1" }]);
  assert.deepEqual(asked, [
    { what: "GET /v1/push", ...bearer, type: undefined, body: "" },
    { what: "POST /v1/push", ...bearer, type: "application/json", body: wanted },
  ]);
});

test("a subscription of a key that is gone is made anew; one of this key is renewed", async (t) => {
  const { client, asked } = await opened(t, [key, ok, key, ok]);
  const it = browser("k0");
  await client.push.subscribe(it.registration);
  assert.equal(it.ended, 1);
  await client.push.subscribe(it.registration);
  assert.equal(it.ended, 1);
  assert.deepEqual(asked.filter(({ body }) => body).map(({ body }) => body), [wanted, wanted]);
});

test("who unsubscribes gets nothing any more, though the gateway may not be there; twice is once", async (t) => {
  const { client, asked, close } = await opened(t, [ok, [503, '{"type":"error","code":"unavailable","message":"later"}']]);
  const it = browser("k1");
  await client.push.unsubscribe(it.registration);
  await client.push.unsubscribe(it.registration);
  assert.equal(it.ended, 1);
  assert.deepEqual(asked, [{ what: "DELETE /v1/push", ...bearer, type: "application/json", body: { endpoint: "https://push.example.com/k1" } }]);
  it.key = "k2";
  await assert.rejects(client.push.unsubscribe(it.registration), { name: "AllimError", code: "unavailable", message: "later" });
  it.key = "k3";
  await close();
  await assert.rejects(client.push.unsubscribe(it.registration), { name: "AllimError", code: "unavailable" });
  assert.equal(it.ended, 3);
});

test("what the browser, the person or the gateway refuses rejects, and nothing is stored", async (t) => {
  const { client, asked } = await opened(t, [[404, '{"type":"error","code":"bad_frame","message":"nothing is pushed here"}'], [502, "<html>"], key, key, [400, '{"type":"error","code":"bad_frame","message":"endpoint"}']]);
  const it = browser();
  await assert.rejects(client.push.subscribe(it.registration), { name: "AllimError", code: "bad_frame", message: "nothing is pushed here" });
  await assert.rejects(client.push.subscribe(it.registration), { name: "AllimError", code: "unavailable" });
  assert.deepEqual(it.asked, [], "the person was not bothered");
  it.denied = true;
  await assert.rejects(client.push.subscribe(it.registration), { name: "NotAllowedError" });
  assert.deepEqual([it.asked.length, asked.at(-1).what], [1, "GET /v1/push"]);
  it.denied = false;
  await assert.rejects(client.push.subscribe(it.registration), { name: "AllimError", code: "bad_frame", message: "endpoint" });
});

test("a page without a token asks with its cookie, and beside whatever path the socket has", async (t) => {
  const it = browser();
  for (const [path, asks] of [["/live/v1/ws?x=1", "GET /live/v1/push"], ["/", "GET /v1/push"]]) {
    const { client, asked } = await opened(t, [key, ok], { path, token: undefined });
    const fetched = t.mock.method(globalThis, "fetch");
    await client.push.subscribe(it.registration);
    assert.deepEqual([asked[0].what, asked[0].authorization], [asks, undefined]);
    assert.equal(fetched.mock.calls[0].arguments[1].credentials, "include");
    fetched.mock.restore();
  }
});

test("the README's service worker shows what is pushed, and opens its page", async () => {
  const readme = readFileSync(new URL("../README.md", import.meta.url), "utf8");
  const [, source] = /```js\n(\/\/ sw\.js[\s\S]*?)```/.exec(readme);
  const listeners = {};
  const shown = [];
  const went = [];
  const self = {
    addEventListener: (name, fn) => (listeners[name] = fn),
    registration: { showNotification: async (title, options) => void shown.push({ title, ...options }) },
    clients: { openWindow: async (url) => void went.push(url) },
  };
  vm.runInNewContext(source, { self }, { filename: "sw.js" });
  const run = async (name, event) => {
    let done;
    listeners[name]({ ...event, waitUntil: (promise) => (done = promise) });
    await done;
  };
  const pushed = { id: "n1", topic: "user:ann", title: "Tea", body: "is here", url: "/t/5" };
  await run("push", { data: { json: () => pushed } });
  await run("push", { data: { json: () => ({ id: "n2", topic: "user:ann" }) } });
  assert.equal(shown.length, 2);
  assert.deepEqual({ ...shown[0], data: { ...shown[0].data } }, { title: "Tea", body: "is here", icon: undefined, tag: "n1", data: { url: "/t/5" } });
  assert.ok(shown[1].title, "a browser shows words of its own where nothing is shown");
  let closed = 0;
  await run("notificationclick", { notification: { data: shown[0].data, close: () => closed++ } });
  assert.deepEqual([went, closed], [["/t/5"], 1]);
});
