// client.js: what a page holds in its hand, and the way of each frame: to the topics, the inbox, or whoever asked.
import { Connection } from "./connection.js";
import { Events } from "./events.js";
import { Inbox } from "./inbox.js";
import { Memory } from "./memory.js";
import { Preferences } from "./preferences.js";
import { Push } from "./push.js";
import { AllimError, Requests } from "./requests.js";
import { Topics } from "./topics.js";

/** @typedef {import("./frames.js").Frame} Frame */
/** @typedef {import("./inbox.js").MarkTarget} MarkTarget */
/** @typedef {string | (() => string | Promise<string>)} Token a JWT, or what fetches one; "" = none */
/**
 * @typedef {object} Options
 * @property {string} [url] of the gateway's `/v1/ws`; http(s) is taken as ws(s); default: the page's own host
 * @property {Token} [token] a function is called before each connect, and when the token in use ends
 * @property {string[]} [topics] heard without a handler: on("message")
 * @property {number} [inbox] items to load at the start, 1–100; 0 or absent = none
 * @property {string} [origin] this page's own secret, [A-Za-z0-9_-]{16,32}; default: random
 * @property {Storage | null} [storage] where positions and ids survive a reload; default: nowhere
 * @property {typeof WebSocket} [WebSocket] default: the browser's
 * @property {{minMs?: number, maxMs?: number}} [backoff] ceilings of the first and of every delay; default 500, 30,000
 * @property {(event: string, detail?: any) => void} [log] "state", "open", "close", "bad_frame", "error"
 * @property {import("./transports/websocket.js").Clock} [clock] for tests: time and chance
 */
/**
 * What `client.inbox` offers. A mark takes an id, `{ids}`, `{upto: position}` or `{all: true}`.
 * @typedef {ReturnType<typeof faceOf>} InboxFace
 */

export class Client {
  /** The user's notifications and badge. @type {InboxFace} */
  inbox;
  /** This browser, for what no device shows in time. @type {Push} */
  push;
  /** Of the connection's `welcome`; undefined before the first. @type {string | undefined} */
  session;
  /** Whether the gateway said that messages may come late. */
  degraded = false;
  /** Whose inbox this is; undefined for anonymous pages. @type {string | undefined} */
  user;
  #events;
  #connection;
  #requests;
  #topics;
  #inbox;
  #preferences;
  #memory;
  #origin;
  #log;
  /** @type {(frame: Frame) => void} told of a refusal that nobody listens to: a page must not be empty without a word */
  #refused;
  #unhook;
  #fresh = false; // the next welcome is the first of its connection

  /** @param {Options} options see connect */
  constructor(options) {
    const { storage, topics, inbox: first = 0 } = options;
    const WebSocket = options.WebSocket ?? globalThis.WebSocket;
    if (!WebSocket) throw new TypeError("allim: there is no WebSocket here; pass options.WebSocket");
    const url = urlOf(options.url);
    const clock = options.clock ?? browserClock;
    this.#log = options.log ?? (() => {});
    this.#refused = (frame) =>
      options.log ? options.log("error", frame) : console.warn(`allim: ${frame.code} ${frame.topic ?? ""}: ${frame.message}`);
    const report = (/** @type {any} */ detail) => (options.log ? options.log("error", detail) : complain(detail.error));
    this.#origin = options.origin ?? randomOrigin();
    this.#events = new Events(report);
    this.#requests = new Requests((frame) => this.#connection.send(frame), clock);
    this.#inbox = new Inbox(this.#requests, (name, value) => this.#events.emit(name, value));
    this.#preferences = new Preferences(this.#requests, (choice) => this.#events.emit("preferences", choice));
    this.inbox = faceOf(this.#inbox, this.#preferences, this.#events);
    this.push = new Push(url, () => this.#connection.token());
    this.#memory = new Memory(storage, "allim:" + url.origin + url.pathname, clock, this.#log);
    this.#connection = new Connection(
      {
        url: () => {
          url.searchParams.set("origin", this.#origin);
          if (first > 0 && !this.#inbox.loaded) url.searchParams.set("inbox", String(first));
          else url.searchParams.delete("inbox");
          return url.href;
        },
        token: options.token,
        WebSocket,
        backoff: options.backoff,
        clock,
        log: this.#log,
      },
      {
        state: (state) => this.#became(state),
        adopted: () => {
          this.#fresh = true;
          this.#lost("");
        },
        frame: (frame) => this.#receive(frame),
        lost: () => this.#lost("the connection was lost"),
      },
    );
    this.#topics = new Topics(
      {
        send: (frame) => this.#connection.send(frame),
        ref: () => this.#requests.ref(),
        emit: (name, value) => this.#events.emit(name, value),
        report,
        clock,
        memory: this.#memory,
      },
      topics,
    );
    this.#unhook = hook(
      () => this.#connection.nudge(),
      () => this.#memory.flush(),
    );
    // listeners and handlers added in the same turn miss nothing
    queueMicrotask(() => this.state === "connecting" && this.#connection.start());
  }

  /** "connecting" | "open" | "waiting" | "closed" */
  get state() {
    return this.#connection.state.state;
  }

  /**
   * Adds a listener. It is not waited for: a message that must be handled before its place counts as passed belongs
   * to a handler of `subscribe`.
   * @param {"state" | "welcome" | "degraded" | "restored" | "badge" | "notification" | "preferences" | "message" | "reset" | "error" | "frame"} name
   * @param {(value: any) => unknown} fn
   * @returns {() => void} takes it away
   */
  on(name, fn) {
    return this.#events.on(name, fn);
  }

  /**
   * Hears a topic. Messages come one after the other, each known (topic, id) once; the place in the topic moves when
   * the handler returned (or its promise settled), and from there the page goes on after a drop.
   * @param {string} topic `me` is the user's own stream
   * @param {(message: import("./frames.js").Message) => unknown} handler
   * @param {{from?: string | null}} [options] from: null = from now on; "0" = all that is in history; or a position.
   *   Absent: from where the page's storage says, else from now on
   * @returns {import("./topics.js").Subscription}
   */
  subscribe(topic, handler, { from } = {}) {
    return this.#topics.add(topic, handler, from);
  }

  /**
   * A new token: for the connection that is open, and for those to come. Connects again if the old one was refused.
   * @param {Token} token
   * @returns {Promise<void>} settles when the open connection has answered; at once when there is none
   */
  async auth(token) {
    if (this.#connection.use(token)) await this.#authenticate();
  }

  async #authenticate() {
    const token = await this.#connection.token();
    const frame = /** @type {any} */ ({ type: "auth", token, origin: this.#origin });
    await /** @type {Promise<void>} */ (
      new Promise((resolve, reject) => {
        this.#requests.ask(frame, (error) => (error ? reject(error) : resolve()), { once: true });
      })
    );
  }

  /** Leaves for good: unanswered marks reject, nothing is dialled any more. */
  close() {
    this.#connection.close();
    this.#unhook();
  }

  /**
   * The live connection is gone, or another took its place.
   * @param {string} reason "" = the next welcome is the answer to a token
   */
  #lost(reason) {
    if (this.#topics.unplug()) this.#inbox.renew();
    this.#requests.end(false, reason);
  }

  /** @param {import("./connection.js").State} state */
  #became(state) {
    this.#log("state", state);
    if (state.state === "closed") {
      this.#topics.close();
      this.#requests.end(true, "the connection is closed");
    }
    this.#events.emit("state", state);
  }

  /** @param {Frame} frame */
  #receive(frame) {
    this.#events.emit("frame", frame);
    switch (frame.type) {
      case "welcome":
        return this.#welcome(frame);
      case "message":
      case "refresh":
      case "state":
        return void this.#topics.receive(frame);
      case "notification":
      case "badge":
      case "update":
      case "retract":
        return this.#inboxFrame(frame);
      case "preferences":
        if (frame.ref !== undefined) return void this.#requests.answer(frame); // its place is no event's
        return this.#inboxFrame(frame);
      case "inbox":
        if (frame.ref !== undefined) return void this.#requests.answer(frame);
        this.#inbox.replace(frame);
        return this.#topics.replaced(frame.at);
      case "reset":
        if (frame.topic === this.#topics.own) this.#preferences.renew();
        return this.#topics.reset(frame);
      case "subscribed":
        return this.#topics.subscribed(frame);
      case "ok":
        return void this.#requests.answer(frame);
      case "error":
        if (!this.#requests.answer(frame)) this.#topics.refuse(frame);
        if (!this.#events.emit("error", frame)) this.#refused(frame);
        return;
      case "degraded":
      case "restored":
        return this.#degrade(frame.type, frame);
      case "expiring":
        if (this.#connection.renewable) this.#authenticate().catch((error) => this.#log("error", { error }));
    }
  }

  /** @param {Frame} frame the first of a connection, or the one after an `auth` */
  #welcome(frame) {
    const { own } = this.#topics;
    this.session = frame.session;
    this.user = frame.user;
    this.#topics.welcome(frame);
    if (own && own !== this.#topics.own) {
      this.#requests.end(true, "another user");
      this.#preferences.forget();
    }
    this.#inbox.welcome(this.#topics.own, frame.badge, frame.topics);
    if (this.#fresh) this.#requests.resend();
    this.#events.emit("welcome", frame);
    if (this.#fresh) this.#degrade("restored"); // where it is not so, the next frame says it
    this.#fresh = false;
  }

  /**
   * @param {"degraded" | "restored"} name
   * @param {Frame} [frame]
   */
  #degrade(name, frame) {
    if (this.degraded === (name === "degraded")) return;
    this.degraded = !this.degraded;
    this.#events.emit(name, frame);
  }

  /** @param {Frame} frame */
  #inboxFrame(frame) {
    const what = frame.topic === undefined ? "new" : this.#topics.receive(frame);
    const unknown = what === "new" && frame.type === "notification" && this.#topics.remember(frame.topic, frame.id);
    this.#inbox.apply(frame, what, unknown);
    if (frame.type === "preferences" && what === "new") this.#preferences.take(frame);
  }
}

/**
 * The page's side of the inbox.
 * @param {Inbox} inbox
 * @param {Preferences} preferences
 * @param {Events} events
 */
function faceOf(inbox, preferences, events) {
  const marker = (/** @type {import("./marks.js").MarkName} */ name) => (/** @type {MarkTarget} */ target) => inbox.mark(name, target);
  return {
    /** Active notifications, newest first; a new array after each "change". */
    get items() {
      return inbox.items;
    },
    get badge() {
      return inbox.badge;
    },
    /** Whether more() would bring something. */
    get hasMore() {
      return inbox.hasMore;
    },
    more: (/** @type {number} */ limit = 50) => inbox.more(limit),
    offer: (/** @type {import("./frames.js").Badge} */ badge) => inbox.offer(badge),
    seen: marker("seen"),
    read: marker("read"),
    unread: marker("unread"),
    archive: marker("archive"),
    unarchive: marker("unarchive"),
    delete: marker("delete"),
    /** Which categories the user has muted. What changes it comes as "preferences" of the client, on every device. */
    preferences: () => preferences.ask(),
    /** Mutes these categories and no others: nothing new of them comes into the inbox, but what the backend calls mandatory. */
    mute: (/** @type {string[]} */ categories) => preferences.set(categories),
    /** "change": items, badge or hasMore are others now. */
    on: (/** @type {"change"} */ name, /** @type {() => void} */ fn) => events.on(name, fn),
  };
}

/**
 * @param {string} [url]
 * @returns {URL} ws: or wss:
 */
function urlOf(url = "/v1/ws") {
  const full = new URL(url, globalThis.location?.href);
  full.protocol = full.protocol.replace(/^http/, "ws");
  return full;
}

/** 16 random bytes as 32 hexadecimal digits: an origin as the contract wants it. */
function randomOrigin() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** How far the time of day is ahead of performance.now(), at most: that may stand still while a laptop sleeps. */
let slept = -Infinity;

const browserClock = {
  now: () => (slept = Math.max(slept, Date.now() - performance.now())) + performance.now(), // never goes back
  setTimeout: (/** @type {() => void} */ fn, /** @type {number} */ ms) => setTimeout(fn, ms),
  clearTimeout: (/** @type {any} */ timer) => clearTimeout(timer),
  random: () => Math.random(),
};

/**
 * Somebody's function threw and nobody logs: let the page's own error handling see it.
 * @param {unknown} error
 */
function complain(error) {
  if (globalThis.reportError) globalThis.reportError(error);
  else console.error(error);
}

/**
 * Listens to the browser: the network is back, the page is looked at or shown again, the page goes.
 * @param {() => void} wake
 * @param {() => void} leave
 * @returns {() => void} stops listening
 */
function hook(wake, leave) {
  const { addEventListener, document } = globalThis;
  if (!addEventListener || !document) return () => {};
  const looked = () => (document.visibilityState === "visible" ? wake() : leave());
  /** @type {[EventTarget, string, () => void][]} */
  const hooks = [
    [globalThis, "online", wake],
    [globalThis, "pageshow", wake],
    [globalThis, "pagehide", leave],
    [document, "visibilitychange", looked],
  ];
  for (const [target, name, fn] of hooks) target.addEventListener(name, fn);
  return () => {
    for (const [target, name, fn] of hooks) target.removeEventListener(name, fn);
  };
}

export { AllimError };
