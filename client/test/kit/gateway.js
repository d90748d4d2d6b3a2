// gateway.js: a gateway that says what a test tells it to, over a real WebSocket.
import { once } from "node:events";
import { WebSocket, WebSocketServer } from "ws";
import { connect } from "../../src/index.js";

const DEADLINE_MS = 5_000; // longest wait for something that should happen at once

/** Starts a gateway and gives what a test needs; everything ends with the test. */
export async function world(t) {
  const gateway = new Gateway();
  await once(gateway.server, "listening");
  const clients = [];
  t.after(() => {
    for (const client of clients) client.close();
    for (const socket of gateway.server.clients) socket.terminate();
    gateway.server.close();
  });
  return {
    gateway,
    /** A client of this gateway on a clock that the test moves; what it says is in `said`. */
    page(options = {}) {
      const clock = options.clock ?? new Clock();
      const log = [];
      const client = connect({ url: gateway.url, WebSocket, clock, log: (event, detail) => log.push({ event, detail }), ...options });
      clients.push(client);
      const said = {};
      for (const name of ["state", "welcome", "badge", "notification", "message", "reset", "error", "frame"]) {
        said[name] = [];
        client.on(name, (value) => said[name].push(value));
      }
      return { client, clock, log, said };
    },
  };
}

class Gateway {
  server = new WebSocketServer({ host: "127.0.0.1", port: 0, handleProtocols: (set) => (set.has("allim.v1") ? "allim.v1" : false) });
  accepted = 0;
  #peers = new Inflow();

  constructor() {
    this.server.on("connection", (socket, request) => {
      this.accepted++;
      this.#peers.put(new Peer(socket, request));
    });
  }

  get url() {
    const address = this.server.address(); // null once it is closed
    if (address) this.lastUrl = `http://127.0.0.1:${address.port}/v1/ws`;
    return this.lastUrl;
  }

  /** The next connection, as it comes. */
  accept() {
    return this.#peers.take("a connection");
  }

  /** The next connection, welcomed as user 42, whose stream stands at 10. */
  async welcome(more = {}) {
    const peer = await this.accept();
    peer.send({ type: "welcome", session: "s1", user: "42", ping: 25, topics: { "user:42": "u.10" }, badge: badge(0, 0, 10), ...more });
    return peer;
  }
}

/** One connection, seen from the gateway. */
export class Peer {
  #frames = new Inflow();

  constructor(socket, request) {
    this.socket = socket;
    this.url = new URL(request.url, "http://gateway");
    this.protocols = (request.headers["sec-websocket-protocol"] ?? "").split(",");
    this.closed = new Promise((resolve) => socket.on("close", (code) => resolve(code)));
    socket.on("message", (data) => this.#frames.put(JSON.parse(data.toString())));
  }

  /** Sends frames; a string goes out as it stands. */
  send(...frames) {
    for (const frame of frames) this.socket.send(typeof frame === "string" ? frame : JSON.stringify(frame));
  }

  /** The next frame of the client; it must be of this type. */
  async take(type) {
    const frame = await this.#frames.take(type);
    if (frame.type !== type) throw new Error(`got ${JSON.stringify(frame)}, want a frame ${type}`);
    return frame;
  }

  /** Answers the next subscribe frame: each topic begins where it was asked for, or at `at[topic]`. */
  async subscribed(at = {}, more = {}) {
    const frame = await this.take("subscribe");
    const topics = Object.fromEntries(Object.entries(frame.topics).map(([topic, from]) => [topic, at[topic] ?? from ?? "k.0"]));
    this.send({ type: "subscribed", ref: frame.ref, topics, ...more });
    return frame;
  }

  close(code, reason = "") {
    this.socket.close(code, reason);
  }
}

/** What comes in, for who waits for it. */
class Inflow {
  #items = [];
  #waiting = [];

  put(item) {
    const waiting = this.#waiting.shift();
    if (waiting) waiting(item);
    else this.#items.push(item);
  }

  async take(what) {
    if (this.#items.length) return this.#items.shift();
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`waited ${DEADLINE_MS} ms for ${what}`)), DEADLINE_MS);
      this.#waiting.push((item) => {
        clearTimeout(timer);
        resolve(item);
      });
    });
  }
}

/** Time that passes when the test says so, and chance that it chooses. */
export class Clock {
  time = 1_000_000;
  chance = 0.5;
  timers = new Map();
  #last = 0;

  now() {
    return this.time;
  }

  random() {
    return this.chance;
  }

  setTimeout(fn, ms) {
    this.timers.set(++this.#last, { fn, at: this.time + ms });
    return this.#last;
  }

  clearTimeout(id) {
    this.timers.delete(id);
  }

  /** Lets time pass; what falls due runs in order. */
  pass(ms) {
    const end = this.time + ms;
    for (;;) {
      const due = [...this.timers].filter(([, { at }]) => at <= end).sort(([, a], [, b]) => a.at - b.at)[0];
      if (!due) break;
      this.timers.delete(due[0]);
      this.time = Math.max(this.time, due[1].at);
      due[1].fn();
    }
    this.time = end;
  }
}

/** Waits until the condition holds. */
export async function until(what, condition) {
  const end = Date.now() + DEADLINE_MS;
  while (!condition()) {
    if (Date.now() > end) throw new Error(`waited ${DEADLINE_MS} ms until ${what}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

export function badge(unread, unseen, rev, by = {}) {
  return { unread, unseen, by, rev: `u.${rev}` };
}

export function message(topic, n, more = {}) {
  return { type: "message", topic, pos: `k.${n}`, id: `m${n}`, event: "e", data: n, ...more };
}

export function notification(n, more = {}) {
  return { type: "notification", topic: "user:42", pos: `u.${n}`, id: `n${n}`, category: "mention", time: new Date(n * 1000).toISOString(), data: { title: `n${n}` }, ...more };
}

export function item(n, more = {}) {
  const { type, ...fields } = notification(n);
  return { ...fields, seen: false, read: false, archived: false, ...more };
}

export { WebSocket };
