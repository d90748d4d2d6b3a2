// topics.js: all topics of the page: who listens to what, what the gateway must be asked for, and its answers. After
// each `welcome` one `subscribe` asks for everything with the positions held, the streams that are heard without
// asking (own, segments, `hear`) included.
import { pieces } from "./frames.js";
import { AllimError } from "./requests.js";
import { Topic } from "./topic.js";

const LISTED = /^(user|segment):/; // streams of an inbox: after a reset comes a list
const MOST = 100; // topics in one frame: the gateway's limit for a connection
const AGAIN_MS = 5_000; // a topic that was `busy` or `unavailable` is asked for again, unless retry_after says when

/** @typedef {import("./frames.js").Frame} Frame */
/** @typedef {import("./topic.js").Handler} Handler */
/**
 * @typedef {object} Subscription
 * @property {string} topic the name it was asked for by
 * @property {string | null} position handled up to here; null before the gateway's first answer
 * @property {Promise<void>} ready resolves when the gateway sends the topic; rejects when it refuses
 * @property {() => void} close the handler hears no more; the last one of a topic unsubscribes it
 */
/**
 * @typedef {object} TopicsNeeds
 * @property {(frame: {type: string}) => boolean} send
 * @property {() => number} ref
 * @property {(name: string, value: unknown) => void} emit
 * @property {(detail: object) => void} report a handler threw
 * @property {import("./transports/websocket.js").Clock} clock
 * @property {import("./memory.js").Memory} memory
 */

export class Topics {
  /** @type {Map<string, Topic>} */
  #topics = new Map();
  #needs;
  #saved;
  #plugged = false; // the live connection had its welcome
  /** @type {any} */
  #again; // timer
  #againAt = 0; // the latest time that a topic asked for
  /** Full name of the user's own stream; "" before the first welcome and for anonymous pages. */
  own = "";

  /**
   * @param {TopicsNeeds} needs
   * @param {string[]} [wanted] options.topics
   */
  constructor(needs, wanted = []) {
    this.#needs = needs;
    this.#saved = needs.memory.open(() => this.#topics.values());
    for (const name of wanted) this.#topic(name).wanted = true;
  }

  /**
   * The topic of this name, made if it is not there.
   * @param {string} name
   * @param {boolean} [fresh] from now on, whatever was remembered
   */
  #topic(name, fresh) {
    const full = name === "me" && this.own ? this.own : name;
    let topic = this.#topics.get(full);
    if (topic) return topic;
    topic = new Topic(full, {
      message: (message) => this.#needs.emit("message", message),
      reset: ({ topic, pos, reason }) => this.#needs.emit("reset", { topic, pos, reason }),
      moved: () => this.#needs.memory.touch(),
      again: (topic) => {
        topic.live = false;
        this.sync();
      },
      report: this.#needs.report,
    });
    const saved = this.#saved.get(full);
    this.#saved.delete(full);
    if (saved && !fresh) topic.seed(...saved);
    this.#topics.set(full, topic);
    return topic;
  }

  /**
   * @param {string} name
   * @param {Handler["fn"]} fn
   * @param {string | null} [from] null: from now on; absent: from the remembered position, else from now on
   * @returns {Subscription}
   */
  add(name, fn, from) {
    const topic = this.#topic(name, from === null);
    /** @type {Handler} */
    const handler = { fn, topic, from: from ?? undefined, ref: 0, behind: null, ready() {}, refused() {} };
    const ready = /** @type {Promise<void>} */ (
      new Promise((resolve, reject) => Object.assign(handler, { ready: resolve, refused: reject }))
    );
    ready.catch(() => {}); // who does not ask for `ready` hears of it by the "error" event
    topic.handlers = [...topic.handlers, handler];
    if (topic.refused) handler.refused(new AllimError(topic.refused));
    if (topic.live && handler.from === undefined) handler.ready();
    this.sync();
    return {
      topic: name,
      get position() {
        return handler.topic.position;
      },
      ready,
      close: () => this.#remove(handler),
    };
  }

  /** @param {Handler} handler */
  #remove(handler) {
    const { topic } = handler;
    if (!topic.handlers.includes(handler)) return;
    topic.handlers = topic.handlers.filter((other) => other !== handler);
    if (topic.needed || topic.kept) return;
    if (topic.live || topic.ref) this.#needs.send(/** @type {any} */ ({ type: "unsubscribe", topics: [topic.name] }));
    this.#topics.delete(topic.name);
    this.#needs.memory.touch();
  }

  /**
   * No connection, or another one, which has not said welcome.
   * @returns {boolean} whether a list should have come that replaces an inbox
   */
  unplug() {
    this.#plugged = false;
    const topics = [...this.#topics.values()];
    const due = topics.some((topic) => topic.replacing);
    for (const topic of topics) topic.unplug();
    return due;
  }

  /**
   * A welcome: the first of a connection, or the one after an `auth`.
   * @param {Frame} frame
   */
  welcome(frame) {
    /** @type {Record<string, string>} */
    const names = frame.topics ?? {};
    this.#own(Object.keys(names).find((name) => name.startsWith("user:")) ?? "");
    for (const topic of this.#topics.values()) topic.refused = "";
    for (const [name, pos] of Object.entries(names)) {
      const topic = this.#topic(name);
      if (topic.live || topic.ref) continue;
      topic.heard = topic.kept = true;
      if (topic.from !== null) continue; // sync moves it there
      this.#begin(topic, pos, 0);
    }
    this.#plugged = true;
    this.sync();
  }

  /**
   * `me` is this topic from now on. Another user's streams are forgotten, the handlers of `me` go over.
   * @param {string} name "" = anonymous
   */
  #own(name) {
    if (name === this.own) return;
    const old = this.#topics.get(this.own || "me");
    if (this.own) {
      for (const other of [...this.#topics.keys()]) if (LISTED.test(other)) this.#topics.delete(other);
    }
    this.#topics.delete("me");
    this.own = name;
    if (!old?.needed) return;
    const topic = this.#topic("me");
    topic.wanted ||= old.wanted;
    for (const handler of old.handlers) handler.topic = topic;
    topic.handlers = [...topic.handlers, ...old.handlers];
  }

  /** Asks the gateway for what is needed and not on its way. */
  sync() {
    if (!this.#plugged) return;
    /** @param {Topic} t */
    const lacks = (t) =>
      !t.ref && !t.refused && t.name !== "me" && (t.live ? t.handlers.some((h) => h.from !== undefined) : t.needed || t.heard);
    const names = [...this.#topics.values()].filter(lacks).map((t) => /** @type {const} */ ([t.name, t.from]));
    for (const piece of pieces(names, MOST)) {
      const ref = this.#needs.ref();
      for (const [name] of piece) {
        const topic = this.#topic(name);
        topic.ref = ref;
        for (const handler of topic.handlers) handler.ref = ref;
      }
      this.#needs.send(/** @type {any} */ ({ type: "subscribe", topics: Object.fromEntries(piece), ref }));
    }
  }

  /**
   * `subscribed`: what of this ref was not refused is being sent from the position it names.
   * @param {Frame} frame
   */
  subscribed(frame) {
    for (const topic of this.#topics.values()) {
      if (!topic.ref || topic.ref !== frame.ref) continue;
      topic.ref = 0;
      const pos = frame.topics?.[topic.name];
      if (typeof pos === "string") this.#begin(topic, pos, frame.ref);
      else topic.refused = "missing"; // neither an error nor named: not again on this connection
    }
    this.sync(); // for who came meanwhile
  }

  /**
   * @param {Topic} topic
   * @param {string} pos after which its frames begin
   * @param {number} ref of the subscribe frame; 0 = nobody asked
   */
  #begin(topic, pos, ref) {
    topic.live = true;
    topic.push({ type: "begin", topic: topic.name, pos, ref });
    for (const handler of topic.handlers) if (handler.from === undefined || handler.ref === ref) handler.ready();
  }

  /**
   * An `error` that names a topic, or the ref of a subscribe frame: that did not work, or works no more.
   * @param {Frame} frame
   */
  refuse(frame) {
    for (const topic of this.#topics.values()) {
      const mine = frame.ref === undefined ? topic.name === frame.topic : topic.ref !== 0 && topic.ref === frame.ref;
      if (!mine || (frame.topic !== undefined && frame.topic !== topic.name)) continue;
      topic.ref = 0;
      const passing = frame.code === "busy" || frame.code === "unavailable";
      if (topic.live && frame.ref !== undefined && !passing) {
        for (const handler of topic.handlers) this.#stay(handler, frame); // only the way back was refused
        continue;
      }
      topic.live = false;
      topic.refused = frame.code;
      if (passing) {
        this.#retry(frame.retry_after);
        continue;
      }
      topic.heard = false;
      for (const handler of topic.handlers) handler.refused(new AllimError(frame.code, frame.message));
    }
  }

  /**
   * A handler can not have the place it asked for: it goes on with the others.
   * @param {Handler} handler
   * @param {Frame} frame
   */
  #stay(handler, frame) {
    if (handler.from === undefined || handler.ref !== frame.ref) return;
    handler.from = undefined;
    handler.refused(new AllimError(frame.code, frame.message));
  }

  /** @param {number} [seconds] */
  #retry(seconds) {
    const { clock } = this.#needs;
    const now = clock.now();
    this.#againAt = Math.max(this.#againAt, now + (seconds ? seconds * 1000 : AGAIN_MS) * (1 + clock.random()));
    clock.clearTimeout(this.#again);
    this.#again = clock.setTimeout(() => {
      for (const topic of this.#topics.values()) {
        if (topic.refused === "busy" || topic.refused === "unavailable") topic.refused = "";
      }
      this.sync();
    }, this.#againAt - now);
  }

  /**
   * A frame of a topic arrives. What it says of the inbox is taken at once by who calls; messages wait for their turn.
   * @param {Frame} frame
   * @returns {"new" | "repeat" | "later"} "later": ignore it, it comes again (or nobody listens any more)
   */
  receive(frame) {
    let topic = this.#topics.get(frame.topic);
    if (!topic && LISTED.test(frame.topic)) {
      topic = this.#topic(frame.topic); // a segment that a new token brought
      topic.heard = topic.kept = topic.live = true;
    }
    if (!topic) return "later";
    const what = topic.receive(frame);
    if (what !== "later") topic.push(frame);
    return what;
  }

  /**
   * Whether this id is new to the topic; it is known from now on.
   * @param {string} name
   * @param {string} id
   */
  remember(name, id) {
    return this.#topics.get(name)?.remember(id) ?? true;
  }

  /** @param {Frame} frame `reset` */
  reset(frame) {
    const topic = this.#topics.get(frame.topic);
    if (!topic) return;
    topic.replacing = LISTED.test(frame.topic);
    topic.push(frame);
  }

  /**
   * An `inbox` frame replaced the list: streams that were reset go on after what it contains.
   * @param {Record<string, string>} [at]
   */
  replaced(at = {}) {
    for (const [name, pos] of Object.entries(at)) {
      const topic = this.#topics.get(name);
      if (!topic?.replacing) continue;
      topic.replacing = false;
      topic.push({ type: "begin", topic: name, pos, ref: 0 });
    }
  }

  /** Nothing will come any more. */
  close() {
    this.unplug();
    this.#needs.clock.clearTimeout(this.#again);
    this.#needs.memory.flush();
  }
}
