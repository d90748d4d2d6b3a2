// backoff.js: how long to wait before the next attempt. Full jitter, so that ten thousand pages that lost the same
// gateway come back spread out: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/

export const MIN_MS = 500; // ceiling of the first delay
export const MAX_MS = 30_000; // ceiling of every delay

export class Backoff {
  #min;
  #max;
  #random;
  #attempt = 0;

  /**
   * @param {{minMs?: number, maxMs?: number}} [bounds] ceilings in milliseconds; absent = 500 and 30,000
   * @param {() => number} [random] uniform in [0, 1)
   */
  constructor({ minMs = MIN_MS, maxMs = MAX_MS } = {}, random = Math.random) {
    this.#min = minMs;
    this.#max = maxMs;
    this.#random = random;
  }

  /**
   * The next delay in milliseconds: uniform in [0, ceiling), where the ceiling doubles with each call.
   * @param {{hintMs?: number, atLeastMs?: number}} [wish] hintMs: the gateway's ceiling for a first delay;
   *   atLeastMs: it asked for a pause (`retry_after`, 4429), the jitter comes on top
   */
  next({ hintMs, atLeastMs = 0 } = {}) {
    const ceiling = this.#attempt === 0 && hintMs !== undefined ? hintMs : this.#min * 2 ** Math.min(this.#attempt, 30);
    this.#attempt++;
    return Math.round(atLeastMs + this.#random() * Math.min(this.#max, ceiling));
  }

  /** A connection has lasted: the next failure is a first one again. */
  reset() {
    this.#attempt = 0;
  }
}
