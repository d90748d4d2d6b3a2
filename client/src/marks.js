// marks.js: marks that the gateway has not confirmed yet, laid over what it said last. Taking a mark away (an `error`)
// is the roll back; nothing has to be undone.
import { covers, parse } from "./position.js";

/** @typedef {import("./frames.js").Item} Item */
/** @typedef {import("./frames.js").Badge} Badge */
/** @typedef {"seen" | "read" | "unread" | "archive" | "unarchive" | "delete"} MarkName */
/** @typedef {{ids: string[]} | {upto: string | Record<string, string>} | {all: true}} Target */

/** What each mark, and each entry of a badge's `change`, makes of an item; null = it goes. */
export const effects = /** @type {Record<string, Partial<Item> | null>} */ ({
  seen: { seen: true },
  read: { seen: true, read: true },
  unread: { read: false },
  archive: { archived: true, seen: true }, // as the gateway does: who archives has seen
  unarchive: { archived: false },
  delete: null,
});

/**
 * What a page asks a mark for, as a target.
 * @param {unknown} asked one id, or a target
 * @returns {Target}
 * @throws {TypeError} for anything else: the gateway would refuse it, and until then it would stand in the page's list
 */
export function targetOf(asked) {
  const text = (/** @type {any} */ value) => value && typeof value === "string";
  const texts = (/** @type {any} */ of) => typeof of === "object" && Object.values(of).every(text);
  const { ids, upto, all } = text(asked) ? { ids: [asked] } : Object(asked);
  if (Array.isArray(ids) && texts(ids)) return { ids };
  if (!ids && upto && (text(upto) || (!Array.isArray(upto) && texts(upto)))) return { upto };
  if (!ids && !upto && all === true) return { all };
  throw new TypeError("mark: expected an id, {ids: [id]}, {upto: pos} or {all: true}");
}

/** One unconfirmed mark. */
export class Mark {
  /** `ok` came; the mark stays until a frame of the user's stream at or beyond `pos`. */
  answered = false;
  /** @type {import("./position.js").Position | null} */
  pos = null;
  /** Items that came after the mark was made: `all` does not mean them. @type {Set<string>} */
  later = new Set();

  /**
   * @param {MarkName} name
   * @param {Target} target
   * @param {string} own the user's own stream
   */
  constructor(name, target, own) {
    this.name = name;
    this.target = target;
    this.own = own;
  }

  /** @param {Item} item */
  hits(item) {
    const { target } = this;
    if ("ids" in target) return target.ids.includes(item.id);
    if ("all" in target) return !this.later.has(keyOf(item));
    const upto = typeof target.upto === "string" ? { [this.own]: target.upto } : target.upto;
    return covers(parse(upto[item.topic]), parse(item.pos));
  }

  /** Whether afterwards nothing older than the mark counts as unread (as unseen). */
  get clears() {
    const all = "all" in this.target;
    const gone = all && ["read", "archive", "delete"].includes(this.name);
    return { unread: gone, unseen: gone || (all && this.name === "seen") };
  }
}

/**
 * An item is known by (topic, id).
 * @param {{topic: string, id: string}} item
 */
export function keyOf({ topic, id }) {
  return topic + " " + id;
}

/**
 * The list and the badge as they will be when every mark is confirmed. Counts of items that are not in the list are
 * the gateway's, but for marks of `all`.
 * @param {Item[]} items
 * @param {Badge} badge
 * @param {Mark[]} marks oldest first
 * @returns {{items: Item[], badge: Badge}}
 */
export function overlay(items, badge, marks) {
  const before = count(items);
  const now = /** @type {Item[]} */ (items.map((item) => marks.reduce(applied, item)).filter((item) => item !== null));
  const after = count(now);
  const visible = now.filter((item) => !item.archived);
  if (!marks.length) return { items: visible, badge };
  const none = { unread: marks.some((m) => m.clears.unread), unseen: marks.some((m) => m.clears.unseen) };
  const sum = (/** @type {number} */ base, /** @type {number} */ was, /** @type {number} */ is) => Math.max(0, base + is - was);
  /** @type {Record<string, number>} */
  const by = {};
  for (const category of Object.keys({ ...badge.by, ...after.by })) {
    const is = after.by[category] ?? 0;
    const unread = none.unread ? is : sum(badge.by[category] ?? 0, before.by[category] ?? 0, is);
    if (unread) by[category] = unread;
  }
  return {
    items: visible,
    badge: {
      ...badge,
      unread: none.unread ? after.unread : sum(badge.unread, before.unread, after.unread),
      unseen: none.unseen ? after.unseen : sum(badge.unseen, before.unseen, after.unseen),
      by,
    },
  };
}

/**
 * @param {Item | null} item
 * @param {Mark} mark
 * @returns {Item | null}
 */
function applied(item, mark) {
  if (!item || !mark.hits(item)) return item;
  const effect = effects[mark.name];
  return effect && { ...item, ...effect };
}

/** @param {Item[]} items */
function count(items) {
  const sums = { unread: 0, unseen: 0, by: /** @type {Record<string, number>} */ ({}) };
  for (const { seen, read, archived, category } of items) {
    if (archived) continue;
    if (!seen) sums.unseen++;
    if (read) continue;
    sums.unread++;
    if (category) sums.by[category] = (sums.by[category] ?? 0) + 1;
  }
  return sums;
}
