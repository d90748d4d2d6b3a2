// events.js: named listeners. A listener that throws is reported and stops nobody else.

export class Events {
  /** @type {Map<string, Set<(value: any) => unknown>>} */
  #listeners = new Map();
  #report;

  /** @param {(detail: object) => void} report told of each listener that threw */
  constructor(report) {
    this.#report = report;
  }

  /**
   * Adds a listener; the returned function takes it away.
   * @param {string} name
   * @param {(value: any) => unknown} fn
   * @returns {() => void}
   */
  on(name, fn) {
    const set = this.#listeners.get(name) ?? new Set();
    const entry = (/** @type {any} */ value) => fn(value); // own entry: the same fn may be added twice
    this.#listeners.set(name, set.add(entry));
    return () => void set.delete(entry);
  }

  /**
   * @param {string} name
   * @param {unknown} [value]
   * @returns {boolean} whether anybody listens
   */
  emit(name, value) {
    const all = [...(this.#listeners.get(name) ?? [])];
    for (const fn of all) {
      try {
        fn(value);
      } catch (error) {
        this.#report({ event: name, error });
      }
    }
    return all.length > 0;
  }
}
