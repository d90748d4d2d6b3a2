// topic.js: one topic as this page hears it: where it stands, what it has handled, and who listens. Its frames are
// handled one after the other; the position moves when the handlers of a frame have returned.
import { covers, follows, parse } from "./position.js";

const KNOWN = 512; // ids remembered per topic
const QUEUE = 1024; // frames that wait for a slow handler; more: forget them, have them sent again

/** @typedef {import("./frames.js").Frame} Frame */
/** @typedef {import("./frames.js").Message} Message */
/**
 * @typedef {object} Handler
 * @property {(message: Message) => unknown} fn
 * @property {Topic} topic
 * @property {string | undefined} from asked for and not yet begun; undefined: go on wherever the topic is
 * @property {number} ref of the subscribe frame that asks for it; 0 = not sent
 * @property {Set<string> | null} behind while it catches up on what the topic has handled: the ids it got meanwhile
 * @property {() => void} ready
 * @property {(error: Error) => void} refused
 */
/**
 * @typedef {object} TopicEvents
 * @property {(message: Message) => void} message a message that was not known
 * @property {(frame: Frame) => void} reset
 * @property {(topic: Topic) => void} moved the position moved
 * @property {(topic: Topic) => void} again frames were forgotten: subscribe again from the position
 * @property {(detail: object) => void} report a handler threw
 */

export class Topic {
  /** Another array after each change. @type {Handler[]} */
  handlers = [];
  wanted = false; // named in options.topics: heard without a handler
  heard = false; // the gateway sends it without being asked, on this connection
  kept = false; // it was heard at some time: its position stays when the last handler goes
  live = false; // it is being sent on this connection, from where it was asked for
  ref = 0; // of the subscribe frame on its way; 0 = none
  refused = ""; // code of the error that ended it, until the next connection or token
  replacing = false; // a reset came, the list that replaces an inbox did not
  /** @type {string | null} */
  position = null; // handled up to here
  /** @type {Set<string>} */
  known = new Set(); // the last 512 ids handled, oldest first
  #head = parse(null); // received up to here
  #top = parse(null); // the furthest place handled
  /** @type {Frame[]} */
  #queue = [];
  #running = false;
  #lost = ""; // the queue ran over: "full" until the handler has returned, then "asked" until the topic begins again
  #on;

  /**
   * @param {string} name
   * @param {TopicEvents} on
   */
  constructor(name, on) {
    this.name = name;
    this.#on = on;
  }

  /** Whether anybody needs it to be subscribed. */
  get needed() {
    return this.wanted || this.handlers.length > 0;
  }

  /**
   * Continues from a position kept elsewhere (storage, the first `welcome`).
   * @param {string | null} position
   * @param {string[]} [ids]
   */
  seed(position, ids = []) {
    this.position = position;
    this.#head = this.#top = parse(position);
    for (const id of ids) this.remember(id);
  }

  /** What to ask for in the next subscribe frame: the furthest back that somebody waits for. */
  get from() {
    let from = this.position;
    for (const { from: wish } of this.handlers) {
      if (wish !== undefined && from !== "0" && !covers(parse(wish), parse(from))) from = wish;
    }
    return from;
  }

  /** The connection is gone, or another took its place. */
  unplug() {
    this.heard = this.live = this.replacing = false;
    this.ref = 0;
    this.refused = "";
    for (const handler of this.handlers) handler.ref = 0;
  }

  /**
   * Whether the id is new here; it is known from now on.
   * @param {string} id
   */
  remember(id) {
    if (this.known.has(id)) return false;
    this.known.add(id);
    if (this.known.size > KNOWN) this.known.delete(/** @type {string} */ (this.known.values().next().value));
    return true;
  }

  /**
   * Says what a frame of this topic is, and that it was received: "new", "repeat" (it was received before), or "later":
   * a stream that is heard without asking runs from "now" until our subscribe moves it back to where we stood, and
   * all that follows our position comes again then.
   * @param {Frame} frame
   * @returns {"new" | "repeat" | "later"}
   */
  receive(frame) {
    const pos = parse(frame.pos);
    if (!pos || this.name.startsWith("page:")) return "new"; // a page's state comes as it is now, older places too
    if (covers(this.#head, pos)) return "repeat";
    if (this.heard && !this.live && !follows(this.#head, pos)) return "later";
    this.#head = pos;
    return "new";
  }

  /**
   * Lets a frame wait for its turn.
   * @param {Frame} frame of this topic, or `begin` {pos, ref} when the gateway has taken up a subscription
   */
  push(frame) {
    const pos = parse(frame.pos);
    const start = frame.type === "reset" || frame.type === "begin";
    if (frame.type === "reset" || (start && !covers(this.#head, pos))) this.#head = pos;
    if (this.#queue.length >= QUEUE) {
      this.#queue = [];
      this.#lost = "full";
    }
    if (start && this.#lost === "asked") this.#lost = "";
    if (this.#lost) return; // it comes again after the position
    this.#queue.push(frame);
    if (!this.#running) void this.#run();
  }

  async #run() {
    this.#running = true;
    for (let frame = this.#queue.shift(); frame; frame = this.#queue.shift()) {
      const busy = this.#handle(frame);
      if (busy) await busy;
      if (frame.type === "message" && frame.id) this.remember(frame.id); // not before: what is kept for a reload was handled
      if (frame.pos) {
        this.position = frame.pos;
        this.#on.moved(this);
      }
    }
    this.#running = false;
    if (this.#lost !== "full") return;
    this.#lost = "asked";
    this.#on.again(this);
  }

  /**
   * @param {Frame} frame
   * @returns {Promise<unknown> | undefined} undefined when no handler is still at work
   */
  #handle(frame) {
    if (frame.type === "begin") return void this.#begin(frame);
    if (frame.type === "reset") {
      this.#top = parse(frame.pos);
      return void this.#on.reset(frame);
    }
    if (frame.type !== "message" && frame.type !== "refresh" && frame.type !== "state") return;
    const message = /** @type {Message} */ (/** @type {unknown} */ (frame));
    const isNew = this.#isNew(frame);
    if (isNew && frame.type === "message") this.#on.message(message);
    const busy = [];
    for (const handler of this.handlers) {
      if (handler.from !== undefined || !(isNew || handler.behind) || handler.behind?.has(frame.id)) continue;
      if (!this.handlers.includes(handler)) continue; // another one closed it
      if (isNew) handler.behind = null;
      else handler.behind?.add(frame.id);
      const work = this.#call(handler, message);
      if (work) busy.push(work);
    }
    return busy.length ? Promise.all(busy) : undefined;
  }

  /** @param {Frame} frame */
  #isNew(frame) {
    const pos = parse(frame.pos);
    if (this.name.startsWith("page:")) return true;
    const isNew = !covers(this.#top, pos) && !(frame.id && this.known.has(frame.id));
    if (pos && !covers(this.#top, pos)) this.#top = pos;
    return isNew;
  }

  /**
   * The handlers that asked for an earlier place get what follows, known or not.
   * @param {Frame} frame
   */
  #begin({ ref }) {
    for (const handler of this.handlers) {
      if (handler.from === undefined || handler.ref !== ref) continue;
      handler.behind = new Set();
      handler.from = undefined;
    }
  }

  /**
   * @param {Handler} handler
   * @param {Message} message
   * @returns {Promise<unknown> | undefined}
   */
  #call(handler, message) {
    const failed = (/** @type {unknown} */ error) => this.#on.report({ topic: this.name, error });
    try {
      const work = /** @type {any} */ (handler.fn(message));
      if (work?.then) return Promise.resolve(work).catch(failed);
    } catch (error) {
      failed(error);
    }
  }
}
