// preferences.js: which categories the user has muted: what is told to all devices, and asked for by a page that shows it.
import { covers, parse } from "./position.js";

/** @typedef {{mute: string[]}} Choice categories of which nothing new comes in, sorted */

export class Preferences {
  /** @type {string[] | undefined} */
  #mute; // undefined: this page never asked, and nothing changed
  #at = parse(null); // place in the user's stream that it is of
  #requests;
  #emit;

  /**
   * @param {import("./requests.js").Requests} requests
   * @param {(choice: Choice) => void} emit
   */
  constructor(requests, emit) {
    this.#requests = requests;
    this.#emit = emit;
  }

  /** @returns {Promise<Choice>} as the gateway has it now */
  ask() {
    return this.#send({ type: "preferences" }).then(() => ({ mute: this.#mute ?? [] }));
  }

  /**
   * @param {string[]} mute all of them: none is muted with []
   * @returns {Promise<void>}
   */
  set(mute) {
    return this.#send({ type: "preferences", mute });
  }

  /**
   * @param {object} frame
   * @returns {Promise<void>}
   */
  #send(frame) {
    return new Promise((resolve, reject) => {
      this.#requests.ask(/** @type {any} */ (frame), (error, answer) => {
        if (error) return reject(error);
        this.take(answer);
        resolve();
      });
    });
  }

  /**
   * An answer, or what any device of the user has changed. An answer may be older than what came on the stream before it.
   * @param {import("./frames.js").Frame} frame
   */
  take({ mute, pos }) {
    const at = parse(pos);
    if (!mute || (covers(this.#at, at) && !covers(at, this.#at))) return;
    this.#at = at;
    this.#mute = mute;
    this.#emit({ mute });
  }

  /** Changes may have been missed: who asked once is told anew. */
  renew() {
    if (this.#mute) this.ask().catch(() => {}); // the connection's end: its next reset, or the page, asks again
  }

  /** It is another user's page now. */
  forget() {
    this.#mute = undefined;
    this.#at = null;
  }
}
