// position.js: places in a topic. A position is `epoch.offset` (proto/client); pages treat it as an opaque string,
// this client compares two of the same epoch, and only those.

/** @typedef {{epoch: string, offset: number}} Position */

/**
 * Reads a position; null for anything that is none ("0", null and a missing field included).
 * @param {unknown} text
 * @returns {Position | null}
 */
export function parse(text) {
  if (typeof text !== "string") return null;
  const dot = text.lastIndexOf(".");
  const digits = text.slice(dot + 1);
  return dot > 0 && /^\d{1,16}$/.test(digits) ? { epoch: text.slice(0, dot), offset: Number(digits) } : null;
}

/**
 * Whether `b` lies at or before `a`. Places of different epochs can not be compared: false.
 * @param {Position | null | undefined} a
 * @param {Position | null | undefined} b
 */
export function covers(a, b) {
  return !!a && !!b && a.epoch === b.epoch && b.offset <= a.offset;
}

/**
 * Whether `b` is the very next place after `a`.
 * @param {Position | null} a
 * @param {Position | null} b
 */
export function follows(a, b) {
  return !!a && !!b && a.epoch === b.epoch && b.offset === a.offset + 1;
}
