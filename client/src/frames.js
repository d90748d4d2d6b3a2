// frames.js: the frames of proto/client as this client reads and writes them. Unknown types and fields are no
// mistake: that is how the protocol grows.

/** @typedef {{unread: number, unseen: number, by: Record<string, number>, rev?: string}} Badge */
/**
 * @typedef {object} Item one notification of the inbox
 * @property {string} id
 * @property {string} topic the stream it came from: the user's own, or a segment
 * @property {string} [pos]
 * @property {string} [category]
 * @property {string} [time] RFC 3339
 * @property {string} [expires_at] RFC 3339
 * @property {any} [data] as published; `title`, `body`, `url`, `icon`, `actions` by convention
 * @property {boolean} seen
 * @property {boolean} read
 * @property {boolean} archived
 * @property {boolean} [replayed] came late, after a Redis that lost data
 * @property {boolean} [mine]
 */
/**
 * @typedef {object} Message what a topic's handler gets: the `message` frame (`refresh` or `state` on a page topic)
 * @property {string} type
 * @property {string} topic
 * @property {string} [pos] absent on ephemeral messages
 * @property {string} [id] absent on ephemeral messages
 * @property {string} [event]
 * @property {string} [time] RFC 3339
 * @property {any} [data]
 * @property {boolean} [mine] caused by this page's origin
 * @property {boolean} [replayed] came late, after a Redis that lost data: sort by `time`
 */
/** @typedef {Record<string, any> & {type: string}} Frame any frame, checked by decode */

/** What must (or, with "?", may) stand in each known type for this client to use it. */
const shapes = /** @type {Record<string, string>} */ ({
  welcome: "session? user? topics? badge? ping?",
  message: "topic pos? id?",
  notification: "topic id pos? replaces? badge?",
  badge: "badge? pos? topic? change?",
  update: "topic id pos?",
  retract: "topic id pos? badge?",
  inbox: "items? before? at? badge?",
  preferences: "topic? pos? mute?",
  refresh: "topic pos?",
  state: "topic pos?",
  reset: "topic pos?",
  subscribed: "topics?",
  ok: "pos? unknown?",
  error: "code topic? retry_after?",
  pong: "",
  expiring: "",
  move: "after_ms?",
  degraded: "",
  restored: "",
  close: "retry_after?",
});

/** The kinds of those fields that are no strings. */
const kinds = /** @type {Record<string, string>} */ ({
  topics: "object", badge: "object", change: "object", at: "object",
  items: "array", unknown: "array", mute: "array",
  ping: "number", after_ms: "number", retry_after: "number",
});

/** The types this client knows. */
export const known = new Set(Object.keys(shapes));

/**
 * Reads one text frame. Null = not a JSON object with a `type`, or a known type whose fields are of the wrong kind:
 * to be ignored. A frame of an unknown type is returned as it stands.
 * @param {unknown} text
 * @returns {Frame | null}
 */
export function decode(text) {
  let frame;
  try {
    frame = JSON.parse(/** @type {string} */ (text));
  } catch {
    return null;
  }
  if (typeof frame?.type !== "string") return null;
  if (!known.has(frame.type)) return frame;
  for (const [, field, optional] of shapes[frame.type].matchAll(/(\w+)(\??)/g)) {
    const got = kind(frame[field]);
    if (got === "undefined" ? !optional : got !== (kinds[field] ?? "string")) return null;
  }
  return frame;
}

/**
 * typeof with arrays told apart; null counts as absent.
 * @param {any} value
 */
function kind(value) {
  return Array.isArray(value) ? "array" : value === null ? "undefined" : typeof value;
}

/** Most JSON characters of one list in a frame: names and ids are ASCII, so half of the gateway's 16 KiB a frame. */
const LIST_CHARS = 8192;

/**
 * Cuts a list into pieces that each fit one frame.
 * @template T
 * @param {T[]} list
 * @param {number} most entries a piece
 * @returns {T[][]} no piece is empty; an empty list gives none
 */
export function pieces(list, most) {
  /** @type {T[][]} */
  const out = [];
  /** @type {T[]} */
  let piece = [];
  let room = 0; // so the first entry begins one
  for (const entry of list) {
    const size = JSON.stringify(entry).length + 1;
    if (piece.length >= most || size > room) {
      out.push((piece = []));
      room = LIST_CHARS;
    }
    piece.push(entry);
    room -= size;
  }
  return out;
}
