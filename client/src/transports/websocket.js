// websocket.js: one WebSocket from dial to end, with its time limits and its heartbeat. It never comes back: that is
// connection.js.
import { decode } from "../frames.js";

const WELCOME_MS = 20_000; // from the dial to `welcome`: DNS, TLS, upgrade and the gateway's 5 s for `auth`
const PONG_MS = 10_000; // from our `ping` to any frame
const WATCH_MS = 5_000; // longest time between two looks at the clock: a timer stands still while the machine sleeps
const CLOSE_MS = 100; // from `error` to its `close`: browsers send both in one task, Node's ws and undici within some ticks

/**
 * @typedef {object} Clock
 * @property {() => number} now milliseconds
 * @property {(fn: () => void, ms: number) => any} setTimeout
 * @property {(timer: any) => void} clearTimeout
 * @property {() => number} random uniform in [0, 1)
 */
/**
 * @typedef {object} LinkEvents callbacks of one link; none comes after `close`, nor after our own Link.close
 * @property {(link: Link) => void} open the upgrade succeeded
 * @property {(link: Link, frame: import("../frames.js").Frame) => void} frame
 * @property {(link: Link, end: {code: number, reason: string}) => void} close 1006 = without a close frame
 * @property {(text: unknown) => void} bad a frame that can not be read; it is ignored
 */

export class Link {
  #socket;
  #on;
  #clock;
  /** @type {any} */
  #timer;
  #heard;
  #pinged = false;
  #silenceMs = Infinity;
  /** The token that this connection was opened with, or that replaced it. */
  token;
  /** The upgrade succeeded, and the socket has neither failed nor ended. */
  open = false;

  /**
   * Dials at once. Throws what the WebSocket constructor throws (a URL or a token that it can not take).
   * @param {{url: string, token: string, WebSocket: typeof globalThis.WebSocket, clock: Clock}} to
   * @param {LinkEvents} on
   */
  constructor({ url, token, WebSocket, clock }, on) {
    this.token = token;
    this.#on = on;
    this.#clock = clock;
    this.#heard = clock.now();
    // never in the URL: that stands in logs
    this.#socket = new WebSocket(url, token ? ["allim.v1", "bearer." + token] : ["allim.v1"]);
    this.#socket.onopen = () => {
      this.open = true;
      on.open(this);
    };
    this.#socket.onmessage = ({ data }) => this.#receive(data);
    this.#socket.onerror = () => this.#failed();
    this.#socket.onclose = ({ code, reason }) => this.#end(code, reason);
    this.#wait(WELCOME_MS, "no welcome");
  }

  /** @param {unknown} data */
  #receive(data) {
    this.#heard = this.#clock.now();
    this.#pinged = false;
    const frame = decode(data);
    if (!frame) return this.#on.bad(data);
    if (frame.type === "welcome") {
      this.#silenceMs = (frame.ping > 0 ? frame.ping : 25) * 2000;
      this.#watch();
    }
    this.#on.frame(this, frame);
  }

  /** Asks now whether the gateway still answers: after a sleep, or when the network changed. */
  probe() {
    if (!this.open || this.#pinged || this.#silenceMs === Infinity) return;
    this.#pinged = true;
    this.send({ type: "ping" });
    this.#wait(PONG_MS);
  }

  /**
   * @param {number} ms
   * @param {string} [reason] for which it ends then; absent: it is looked at
   */
  #wait(ms, reason) {
    this.#clock.clearTimeout(this.#timer);
    this.#timer = this.#clock.setTimeout(() => (reason ? this.#end(1006, reason) : this.#watch()), ms);
  }

  #watch() {
    const left = this.#heard + this.#silenceMs - this.#clock.now();
    if (this.#pinged) this.#end(1006, "no pong");
    else if (left > 0) this.#wait(Math.min(left, WATCH_MS));
    else this.probe();
  }

  /**
   * Whether the frame was handed to the socket.
   * @param {object} frame
   */
  send(frame) {
    if (this.open) this.#socket.send(JSON.stringify(frame));
    return this.open;
  }

  /**
   * The socket is lost. The code is in its `close`, but Node's own WebSocket (undici 6, of Node 20) sends none after a
   * dial that was refused: the wait for it is short, and nothing makes it longer.
   */
  #failed() {
    this.open = false;
    this.#deafen();
    this.#wait(CLOSE_MS, "error");
  }

  /** From now on at most `close` is heard. The listener for errors stays: Node's ws throws what nobody listens to. */
  #deafen() {
    this.#socket.onopen = this.#socket.onmessage = null;
    this.#socket.onerror = () => {};
  }

  /** Leaves without a further callback. */
  close() {
    this.#on = { open() {}, frame() {}, close() {}, bad() {} };
    this.#end(1000, "");
  }

  /**
   * @param {number} code
   * @param {string} reason
   */
  #end(code, reason) {
    const { close } = this.#on;
    this.open = false;
    this.#clock.clearTimeout(this.#timer);
    this.#deafen(); // undici answers the close of an unopened socket with another `error`, at once
    this.#socket.onclose = null;
    this.#socket.close(1000);
    close(this, { code, reason });
  }
}
