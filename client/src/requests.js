// requests.js: questions to the gateway that must get an answer. One that got none is sent again, with the same ref:
// after 10 s, and on every new connection. What is asked here can be asked twice (marks, pages of the inbox, auth).

const ANSWER_MS = 10_000; // without an answer: send again
const MOST = 100; // unanswered requests, those made while offline included

/** @typedef {import("./frames.js").Frame} Frame */
/** @typedef {(error: Error | null, answer: Frame) => void} Done */

/** An `error` frame, or this client's own refusal, as an Error with the frame's `code`. */
export class AllimError extends Error {
  /** @override */
  name = "AllimError";

  /**
   * @param {string} code
   * @param {string} [message]
   */
  constructor(code, message) {
    super(message ?? code);
    this.code = code;
  }
}

export class Requests {
  /** @type {Map<number, {frame: {type: string}, done: Done, sent: number, once: boolean}>} */
  #open = new Map();
  #last = 0;
  #send;
  #clock;
  /** @type {any} */
  #timer;

  /**
   * @param {(frame: {type: string}) => boolean} send
   * @param {import("./transports/websocket.js").Clock} clock
   */
  constructor(send, clock) {
    this.#send = send;
    this.#clock = clock;
  }

  /** A ref that no other frame of this client has. */
  ref() {
    return ++this.#last;
  }

  /**
   * Asks, and calls done exactly once: with the answer, or with an AllimError.
   * @param {{type: string}} frame without ref
   * @param {Done} done
   * @param {{once?: boolean}} [how] once: belongs to this connection, and ends with it
   */
  ask(frame, done, { once = false } = {}) {
    if (this.#open.size >= MOST) return done(new AllimError("limit", "too many unanswered requests"), { type: "error" });
    const ref = this.ref();
    const request = { frame: { ...frame, ref }, done, sent: this.#clock.now(), once };
    this.#open.set(ref, request);
    this.#send(request.frame);
    this.#timer ??= this.#clock.setTimeout(() => this.#again(), ANSWER_MS);
  }

  #again() {
    this.#timer = undefined;
    const now = this.#clock.now();
    let wait = ANSWER_MS;
    for (const request of this.#open.values()) {
      if (request.sent + ANSWER_MS <= now) {
        request.sent = now;
        this.#send(request.frame);
      }
      wait = Math.min(wait, request.sent + ANSWER_MS - now);
    }
    if (this.#open.size) this.#timer = this.#clock.setTimeout(() => this.#again(), wait);
  }

  /**
   * Gives an answer to who asked; false when nobody waits for it.
   * @param {Frame} frame
   */
  answer(frame) {
    const request = this.#open.get(frame.ref);
    if (!request) return false;
    this.#open.delete(frame.ref);
    request.done(frame.type === "error" ? new AllimError(frame.code, frame.message) : null, frame);
    return true;
  }

  /** A new connection is open: everything unanswered goes out again, oldest first. */
  resend() {
    for (const request of this.#open.values()) {
      request.sent = this.#clock.now();
      this.#send(request.frame);
    }
  }

  /**
   * Ends the requests that belong to one connection; all of them when nothing will come any more.
   * @param {boolean} all
   * @param {string} reason "" = they are fulfilled: the welcome was the answer
   */
  end(all, reason) {
    for (const [ref, request] of [...this.#open]) {
      if (!all && !request.once) continue;
      this.#open.delete(ref);
      request.done(reason ? new AllimError("unavailable", reason) : null, { type: reason ? "error" : "ok" });
    }
    if (!all) return;
    this.#clock.clearTimeout(this.#timer);
    this.#timer = undefined;
  }
}
