// connection.js: keeps one connection to the gateways alive. It decides when to dial, wait, move and give up; what the
// frames mean is decided in client.js. The only place that retries a connection.
import { Backoff } from "./backoff.js";
import { Link } from "./transports/websocket.js";

const LASTED_MS = 10_000; // a connection that lived this long makes the next failure a first one
const PAUSE_MS = 5_000; // least wait after 4429 and 1013 when no retry_after came
const RESTART_MS = 5_000; // ceiling of the first wait after 1012 without a `move`: everybody was sent away at once
const NUDGE_MS = 1_000; // least time between two dials that the browser's events cause
const TOKEN_MS = 30_000; // a token that did not come until then is asked for again

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
 * @property {() => void} adopted a new connection is the live one; its `welcome` is the next frame
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
  #turn = 0; // counts dials: a token of another turn belongs to a dial that was given up
  #dialling = false; // a token is being fetched, or #next is under way
  #left = false; // by close()
  #asked = false; // the live connection was asked to move
  #since = 0; // time of the live connection's welcome
  #dialled = -Infinity; // time of the last dial
  #welcomed = false; // some connection had its welcome
  #pauseUntil = -Infinity; // gateways asked not to be dialled before (retry_after)
  /** @type {any} */
  #retry; // timer of the next dial; while a token is fetched, of asking for it again
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

  /**
   * Dials; a dial under way is given up. Call once; afterwards the connection sees to itself.
   * @param {number} [turn] in which a token is asked for again: the first that comes is used
   */
  async start(turn = ++this.#turn) {
    this.#next?.close();
    this.#next = null;
    this.#startIn(TOKEN_MS, turn);
    this.#dialling = true;
    this.#dialled = this.#clock.now();
    if (!this.#live) this.#become({ state: "connecting" });
    try {
      const token = await this.token();
      if (turn !== this.#turn) return;
      turn = ++this.#turn;
      this.#startIn();
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
      this.#failed({ code: 1006, reason: "cannot dial: " + error }, "");
    }
  }

  /**
   * @param {number} [ms] until the next dial; absent: none is due
   * @param {number} [turn]
   */
  #startIn(ms, turn) {
    this.#clock.clearTimeout(this.#retry);
    this.#retry = ms === undefined ? ms : this.#clock.setTimeout(() => this.start(turn), ms);
  }

  /**
   * @param {Link} link
   * @param {Frame} frame
   */
  #frame(link, frame) {
    const welcome = link === this.#next && frame.type === "welcome";
    if (frame.retry_after > 0 && (frame.type === "close" || (frame.type === "error" && frame.ref === undefined && frame.topic === undefined))) {
      this.#pauseUntil = this.#clock.now() + frame.retry_after * 1000;
    }
    if (welcome) this.#adopt(link);
    else if (link === this.#next && this.#live) return; // the page hears nothing of a connection that is not its own yet
    this.#on.frame(frame);
    if (link !== this.#live) return; // the page closed in a listener
    if (welcome) this.#become({ state: "open" });
    if (frame.type === "move" && !this.#asked) {
      this.#asked = true;
      this.#rest();
      this.#startIn(frame.after_ms ?? 0);
    }
  }

  /**
   * The new connection speaks: only now is the old one let go of.
   * @param {Link} link
   */
  #adopt(link) {
    this.#rest();
    this.#live?.close();
    this.#live = link;
    this.#next = null;
    this.#dialling = false;
    this.#welcomed = true;
    this.#asked = false;
    this.#since = this.#clock.now();
    this.#on.adopted();
  }

  /** Where the live connection lasted, the next failure is a first one. */
  #rest() {
    if (this.#live && this.#clock.now() - this.#since >= LASTED_MS) this.#backoff.reset();
  }

  /**
   * @param {Link} link
   * @param {{code: number, reason: string}} end
   */
  #ended(link, end) {
    this.#dial.log("close", end);
    if (link === this.#next) {
      this.#next = null;
      return this.#failed(end, link.token);
    }
    this.#rest();
    this.#live = null;
    this.#on.lost();
    if (this.#dialling) this.#become({ state: "connecting" });
    else this.#failed(end, link.token);
  }

  /**
   * A dial failed, or the live connection ended: what now. While it moves, the old connection still holds.
   * @param {{code: number, reason: string}} end
   * @param {string} used the token of the connection that ended
   */
  #failed(end, used) {
    const { code } = end;
    this.#turn++;
    this.#dialling = false;
    const another = this.renewable || (this.#dial.token ?? "") !== used || (this.#welcomed && !used); // a cookie may be new
    const final = (code === 4401 && !another) || (code >= 4500 && code < 5000);
    if (final) return this.#live ? undefined : this.#finish(end);
    const now = this.#clock.now();
    if ((code === 4429 || code === 1013) && this.#pauseUntil <= now) this.#pauseUntil = now + PAUSE_MS;
    const hintMs = code === 1012 && !this.#asked ? RESTART_MS : undefined;
    const retryInMs = this.#backoff.next({ hintMs, atLeastMs: Math.max(0, this.#pauseUntil - now) });
    this.#startIn(retryInMs);
    if (!this.#live) this.#become({ state: "waiting", ...end, retryInMs });
  }

  /** Whether it waits for the next dial, and not because a gateway asked for it. */
  get #free() {
    return !this.#live && !this.#dialling && this.#retry !== undefined && this.#pauseUntil <= this.#clock.now();
  }

  /** The browser says that things may have changed (online, visible, shown again): look at once. */
  nudge() {
    const ms = this.#dialled + NUDGE_MS - this.#clock.now();
    if (this.#live) this.#live.probe();
    else if (!this.#free) return;
    else if (ms > 0) this.#startIn(ms);
    else this.start();
  }

  /**
   * From now on this token. A connection that was closed for good (not by close()) is dialled again.
   * @param {string | (() => string | Promise<string>)} token
   * @returns {boolean} whether there is a connection that should hear of it (`auth`)
   */
  use(token) {
    this.#dial.token = token;
    if (!this.#live && this.#next?.open) return true;
    if (this.#dialling || (this.state.state === "closed" ? !this.#left : this.#free)) this.start();
    return !!this.#live?.open;
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
    this.#startIn();
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
