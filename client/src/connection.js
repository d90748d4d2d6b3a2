// connection.js: keeps one connection to the gateways alive. It decides when to dial, wait, move and give up; what the
// frames mean is decided in client.js. The only place that retries a connection.
import { Backoff } from "./backoff.js";
import { Link } from "./transports/websocket.js";

const LASTED_MS = 10_000; // a connection that lived this long makes the next failure a first one
const PAUSE_MS = 5_000; // least wait after 4429 and 1013 when no retry_after came
const RESTART_MS = 5_000; // ceiling of the first wait after 1012 without a `move`: everybody was sent away at once
const NUDGE_MS = 1_000; // least time between two dials that the browser's events cause

/** @typedef {import("./frames.js").Frame} Frame */
/** @typedef {{state: "connecting" | "open" | "waiting" | "closed", code?: number, reason?: string, retryInMs?: number}} State */
/**
 * @typedef {object} Dial
 * @property {() => string} url called before each dial
 * @property {string | (() => string | Promise<string>) | undefined} token
 * @property {typeof WebSocket} WebSocket
 * @property {{minMs?: number, maxMs?: number}} [backoff]
 * @property {import("./transports/websocket.js").Clock} clock
 * @property {(event: string, detail?: any) => void} log
 */
/**
 * @typedef {object} ConnectionEvents
 * @property {(state: State) => void} state
 * @property {(moved: boolean) => void} adopted a new connection is the live one; its `welcome` is the next frame.
 *   moved: another was live until now
 * @property {(frame: Frame) => void} frame frames of the live connection, and those before the first `welcome`
 * @property {() => void} lost the live connection is gone
 */

export class Connection {
  #dial;
  #on;
  #clock;
  #backoff;
  /** @type {Link | null} */
  #live = null; // the one whose frames count: it had its welcome
  /** @type {Link | null} */
  #next = null; // dialled, no welcome yet. While moving, #live is there too
  #turn = 0; // counts dials: a token that comes late belongs to a dial that was given up
  #dialling = false; // a token is being fetched, or #next is under way
  #left = false; // by close()
  #asked = false; // the live connection was asked to move
  #since = 0; // time of the live connection's welcome
  #dialled = -Infinity; // time of the last dial
  #welcomed = false; // some connection had its welcome
  #pauseUntil = -Infinity; // the gateway asked not to be dialled before (retry_after)
  #paused = false; // the wait under way is such a pause
  /** @type {any} */
  #retry; // timer of the next dial
  /** @type {any} */
  #moving; // timer of the move that the gateway asked for
  /** @type {State} */
  state = { state: "connecting" };

  /**
   * @param {Dial} dial
   * @param {ConnectionEvents} on
   */
  constructor(dial, on) {
    this.#dial = dial;
    this.#on = on;
    this.#clock = dial.clock;
    this.#backoff = new Backoff(dial.backoff, () => dial.clock.random());
  }

  /** The token as it is now: "" = none. May reject. */
  async token() {
    const { token } = this.#dial;
    return (typeof token === "function" ? await token() : token) || "";
  }

  /** Whether a fresh token can be had by asking again. */
  get renewable() {
    return typeof this.#dial.token === "function";
  }

  /** Dials. Call once; afterwards the connection sees to itself. */
  async start() {
    const turn = ++this.#turn;
    this.#clock.clearTimeout(this.#retry);
    this.#retry = undefined;
    this.#dialling = true;
    this.#dialled = this.#clock.now();
    if (!this.#live) this.#become({ state: "connecting" });
    try {
      const token = await this.token();
      if (turn !== this.#turn) return;
      this.#next = new Link(
        {
          url: this.#dial.url(),
          token,
          WebSocket: this.#dial.WebSocket,
          clock: this.#clock,
        },
        {
          open: () => this.#dial.log("open"),
          frame: (link, frame) => this.#frame(link, frame),
          close: (link, end) => this.#ended(link, end),
          bad: (text) => this.#dial.log("bad_frame", text),
        },
      );
    } catch (error) {
      if (turn !== this.#turn) return;
      this.#dial.log("error", { error });
      this.#dialling = false;
      if (this.#live) this.#wait();
      else this.#decide({ code: 1006, reason: "cannot dial: " + error }, "");
    }
  }

  /**
   * @param {Link} link
   * @param {Frame} frame
   */
  #frame(link, frame) {
    const welcome = link === this.#next && frame.type === "welcome";
    if (welcome) this.#adopt(link);
    else if (link === this.#next && this.#live) return; // nothing of a connection that is not ours yet
    if (frame.retry_after > 0 && (frame.type === "close" || (frame.type === "error" && frame.ref === undefined))) {
      this.#pauseUntil = this.#clock.now() + frame.retry_after * 1000;
    }
    this.#on.frame(frame);
    if (link !== this.#live) return; // the page closed in a listener
    if (welcome) this.#become({ state: "open" });
    if (frame.type === "move" && !this.#moving) {
      this.#asked = true;
      this.#moving = this.#clock.setTimeout(() => {
        this.#moving = undefined;
        if (!this.#dialling) this.start();
      }, frame.after_ms ?? 0);
    }
  }

  /**
   * The new connection speaks: only now is the old one let go of.
   * @param {Link} link
   */
  #adopt(link) {
    const moved = this.#live !== null;
    this.#live?.close();
    this.#live = link;
    this.#next = null;
    this.#dialling = false;
    this.#welcomed = true;
    this.#asked = false;
    this.#since = this.#clock.now();
    this.#on.adopted(moved);
  }

  /**
   * @param {Link} link
   * @param {{code: number, reason: string}} end
   */
  #ended(link, end) {
    this.#dial.log("close", end);
    if (link === this.#next) {
      this.#next = null;
      this.#dialling = false;
      if (!this.#live) this.#decide(end, link.token);
      else if (end.code < 4500) this.#wait(); // the move failed; the old connection still holds
      return;
    }
    this.#live = null;
    this.#clock.clearTimeout(this.#moving);
    this.#moving = undefined;
    if (this.#clock.now() - this.#since >= LASTED_MS) this.#backoff.reset();
    this.#on.lost();
    if (this.#dialling) this.#become({ state: "connecting" });
    else this.#decide(end, link.token);
  }

  /**
   * @param {{code: number, reason: string}} end
   * @param {string} used the token of the connection that ended
   */
  #decide(end, used) {
    const { code } = end;
    const another = this.renewable || (this.#dial.token ?? "") !== used || (this.#welcomed && !used); // a cookie may be new
    if ((code === 4401 && !another) || (code >= 4500 && code < 5000)) return this.#finish(end);
    const now = this.#clock.now();
    if ((code === 4429 || code === 1013) && this.#pauseUntil <= now) this.#pauseUntil = now + PAUSE_MS;
    const retryInMs = this.#wait(code === 1012 && !this.#asked ? RESTART_MS : undefined);
    this.#become({ state: "waiting", ...end, retryInMs });
  }

  /**
   * Sets the next dial; returns in how many milliseconds.
   * @param {number} [hintMs] ceiling of a first delay
   */
  #wait(hintMs) {
    this.#clock.clearTimeout(this.#retry);
    const atLeastMs = Math.max(0, this.#pauseUntil - this.#clock.now());
    const ms = this.#backoff.next({ hintMs, atLeastMs });
    this.#paused = atLeastMs > 0;
    this.#retry = this.#clock.setTimeout(() => this.start(), ms);
    return ms;
  }

  /** The browser says that things may have changed (online, visible, shown again): look at once. */
  nudge() {
    if (this.#live) this.#live.probe();
    else if (this.#retry !== undefined && !this.#paused && this.#clock.now() - this.#dialled >= NUDGE_MS) this.start();
  }

  /**
   * From now on this token. A connection that was closed for good (not by close()) is dialled again.
   * @param {string | (() => string | Promise<string>)} token
   * @returns {boolean} whether there is a connection that should hear of it (`auth`)
   */
  use(token) {
    this.#dial.token = token;
    const link = this.#live ?? this.#next;
    if (link?.open) return true;
    if (this.state.state === "closed" ? !this.#left : this.#retry !== undefined && !this.#paused) this.start();
    return false;
  }

  /**
   * Whether the frame was handed to the live connection; before there is one, `auth` alone may go to the one that
   * waits for its welcome.
   * @param {{type: string}} frame
   */
  send(frame) {
    const link = this.#live ?? (frame.type === "auth" ? this.#next : null);
    if (link && frame.type === "auth") link.token = /** @type {any} */ (frame).token;
    return link?.send(frame) ?? false;
  }

  /** Leaves for good. */
  close() {
    if (this.#left) return;
    this.#left = true;
    this.#finish({ code: 1000, reason: "closed by the page" });
  }

  /** @param {{code: number, reason: string}} end */
  #finish(end) {
    this.#turn++;
    this.#clock.clearTimeout(this.#retry);
    this.#clock.clearTimeout(this.#moving);
    this.#retry = this.#moving = undefined;
    this.#dialling = false;
    const live = this.#live;
    this.#next?.close();
    this.#live = this.#next = null;
    live?.close();
    if (live) this.#on.lost();
    this.#become({ state: "closed", ...end });
  }

  /** @param {State} state */
  #become(state) {
    this.state = state;
    this.#on.state(state);
  }
}
