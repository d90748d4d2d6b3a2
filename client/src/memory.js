// memory.js: positions and ids kept in a Storage, so that a reload goes on where the page was. One page, one memory:
// sessionStorage fits, localStorage is shared by tabs and does not.

const KEPT_IDS = 128; // per topic, the newest; the gateway's windows hold 100 and 64
const WRITE_MS = 200; // changes are written together

export class Memory {
  #storage;
  #key;
  #clock;
  #log;
  /** @type {any} */
  #timer;
  /** @type {() => Iterable<import("./topic.js").Topic>} */
  #topics = () => [];

  /**
   * @param {Storage | null | undefined} storage null: remembers nothing
   * @param {string} key
   * @param {import("./transports/websocket.js").Clock} clock
   * @param {(event: string, detail?: any) => void} log
   */
  constructor(storage, key, clock, log) {
    this.#storage = storage;
    this.#key = key;
    this.#clock = clock;
    this.#log = log;
  }

  /**
   * What the page's last life left: topic → [position, ids].
   * @param {() => Iterable<import("./topic.js").Topic>} topics what is to be written from now on
   * @returns {Map<string, [string, string[]]>}
   */
  open(topics) {
    this.#topics = topics;
    try {
      const saved = JSON.parse(this.#storage?.getItem(this.#key) ?? "{}");
      const sound = (/** @type {any} */ [, entry]) => typeof entry?.[0] === "string" && Array.isArray(entry[1]);
      return new Map(/** @type {any} */ (Object.entries(saved).filter(sound)));
    } catch (error) {
      this.#log("error", { error });
      return new Map();
    }
  }

  /** Something moved. */
  touch() {
    if (this.#storage) this.#timer ??= this.#clock.setTimeout(() => this.flush(), WRITE_MS);
  }

  /** Writes now, if there is anything to write. */
  flush() {
    if (this.#timer === undefined) return;
    this.#clock.clearTimeout(this.#timer);
    this.#timer = undefined;
    /** @type {Record<string, [string, string[]]>} */
    const all = {};
    for (const { name, position, known } of this.#topics()) if (position) all[name] = [position, [...known].slice(-KEPT_IDS)];
    try {
      this.#storage?.setItem(this.#key, JSON.stringify(all));
    } catch (error) {
      this.#log("error", { error }); // full or forbidden: the page goes on without
    }
  }
}
