// inbox.js: the user's notifications and badge: what the gateway said, with the page's own marks laid over it at once.
import { pieces } from "./frames.js";
import { effects, keyOf, Mark, overlay, targetOf } from "./marks.js";
import { covers, parse } from "./position.js";

const MOST = 1000; // items held; what is older leaves the list, and `hasMore` becomes false
const MARK_IDS = 500; // ids in one mark: the gateway's limit
const ALIASES = 512; // ids of replaced items that still name their successor

/** @typedef {import("./frames.js").Frame} Frame */
/** @typedef {import("./frames.js").Item} Item */
/** @typedef {import("./frames.js").Badge} Badge */
/** @typedef {import("./marks.js").MarkName} MarkName */
/** @typedef {string | import("./marks.js").Target} MarkTarget one id, ids, a position, or all */
/** @typedef {{changed: number, unknown?: string[], pos?: string}} MarkResult */

/** @type {Badge} */
const NOTHING = { unread: 0, unseen: 0, by: {} };

export class Inbox {
  /** What the gateway said, newest first, archived ones included. @type {Item[]} */
  #items = [];
  #badge = NOTHING;
  /** @type {Mark[]} */
  #marks = []; // not confirmed, oldest first
  /** @type {ReturnType<typeof overlay> | null} */
  #view = null; // of the three above; null = to be made
  #told = ""; // the badge the page was told last
  /** @type {Map<string, string>} */
  #aliases = new Map(); // key of a replaced item → id of what replaced it
  /** @type {Map<string, import("./position.js").Position | null>} */
  #at = new Map(); // topic → contained in the list up to here
  #head = parse(null); // newest place of the user's own stream that arrived
  #own = "";
  #loaded = false;
  /** @type {string | undefined} */
  #before; // where the next page begins; undefined = the list is complete, once #loaded
  #round = 0; // counts lists: a page asked for under another list does not fit this one
  /** @type {Promise<Item[]> | undefined} */
  #page;
  #requests;
  #emit;

  /**
   * @param {import("./requests.js").Requests} requests
   * @param {(name: "change" | "badge" | "notification", value?: unknown) => void} emit
   */
  constructor(requests, emit) {
    this.#requests = requests;
    this.#emit = emit;
  }

  get items() {
    return this.#seen().items;
  }

  get badge() {
    return this.#seen().badge;
  }

  get loaded() {
    return this.#loaded;
  }

  get hasMore() {
    return !this.#loaded || this.#before !== undefined;
  }

  #seen() {
    return (this.#view ??= overlay(this.#items, this.#badge, this.#marks));
  }

  #changed() {
    this.#view = null;
    this.#emit("change");
    const told = JSON.stringify(this.badge);
    if (told === this.#told) return;
    this.#told = told;
    this.#emit("badge", this.badge);
  }

  /**
   * A connection begins, or a new token was taken. Another user starts with nothing.
   * @param {string} own topic of the user's stream; "" = anonymous
   * @param {Badge | undefined} badge
   * @param {Record<string, string>} [topics] all that is heard: items of a segment that this user is no longer in go
   */
  welcome(own, badge, topics) {
    if (this.#own && own !== this.#own) this.#clear();
    this.#own = own;
    if (topics) this.#items = this.#items.filter((item) => item.topic in topics);
    if (badge) this.#take(badge);
    this.#changed();
  }

  #clear() {
    this.#items = [];
    this.#badge = NOTHING;
    this.#marks = [];
    this.#head = null;
    this.#at.clear();
    this.#aliases.clear();
    this.#loaded = false;
    this.#before = undefined;
    this.#round++;
  }

  /** @param {Badge} badge of the live connection: they come in order, the newest is the truth */
  #take(badge) {
    this.#badge = { ...badge, by: badge.by ?? {} };
  }

  /**
   * A badge that came another way (GET /v1/badge, another tab): taken only if it is surely newer.
   * @param {Badge} badge
   * @returns {boolean} whether it was taken
   */
  offer(badge) {
    const held = parse(this.#badge.rev);
    const rev = parse(badge.rev);
    if (!covers(rev, held) || covers(held, rev)) return false;
    this.#take(badge);
    this.#changed();
    return true;
  }

  /**
   * A frame of the user's stream or of a segment.
   * @param {Frame} frame
   * @param {"new" | "repeat" | "later"} what see Topic.receive; only what is new changes the list
   * @param {boolean} unknown the id of a notification was not seen in this session
   */
  apply(frame, what, unknown) {
    const pos = parse(frame.pos);
    const contained = covers(this.#at.get(frame.topic), pos);
    if (frame.badge && !contained) this.#take(frame.badge);
    if (what === "new" && !contained) this.#alter(frame, unknown);
    if (what === "new" && frame.topic === this.#own && pos) this.#reached(pos);
    this.#changed();
    if (frame.type !== "notification" || what !== "new" || !unknown || frame.replayed) return;
    const item = this.#items.find((held) => keyOf(held) === keyOf(/** @type {any} */ (frame)));
    if (item) this.#emit("notification", item);
  }

  /**
   * @param {Frame} frame
   * @param {boolean} unknown
   */
  #alter(frame, unknown) {
    const { topic, id } = frame;
    if (frame.type === "notification" && unknown) this.#add(frame);
    else if (frame.type === "update") this.#edit(topic, [id], { data: frame.data });
    else if (frame.type === "retract") this.#edit(topic, [id], null);
    else if (frame.type === "badge") {
      for (const [name, ids] of Object.entries(frame.change ?? {})) {
        if (!Object.hasOwn(effects, name) || !Array.isArray(ids)) continue;
        this.#edit(null, ids, effects[name]);
        if (name === "unarchive" && !ids.every((id) => this.#items.some((item) => item.id === id))) this.renew(); // it was archived before this page came
      }
    }
  }

  /** @param {Frame} frame `notification` */
  #add({ type, badge, replaces, cursor, ...rest }) {
    const item = itemOf(rest);
    if (this.#items.some((held) => keyOf(held) === keyOf(item))) return;
    if (replaces) this.#replace(item, replaces);
    const time = Date.parse(item.time ?? "");
    const place = this.#items.findIndex((held) => !item.replayed || !(Date.parse(held.time ?? "") > time));
    this.#items.splice(place < 0 ? this.#items.length : place, 0, item);
    for (const mark of this.#marks) mark.later.add(keyOf(item));
    this.#trim();
  }

  /**
   * @param {Item} item
   * @param {string} old id of the item that it replaces; it goes on naming the new one
   */
  #replace({ topic, id }, old) {
    this.#items = this.#items.filter((held) => held.topic !== topic || held.id !== old);
    for (const [key, to] of this.#aliases) if (to === old && key.startsWith(topic + " ")) this.#aliases.set(key, id);
    this.#aliases.set(keyOf({ topic, id: old }), id);
    for (const oldest of this.#aliases.keys()) {
      if (this.#aliases.size <= ALIASES) break;
      this.#aliases.delete(oldest);
    }
  }

  /**
   * @param {string | null} topic null = whatever stream the id is in
   * @param {string[]} ids
   * @param {Partial<Item> | null} change null = it goes
   */
  #edit(topic, ids, change) {
    const meant = (/** @type {Item} */ item) =>
      (topic === null || item.topic === topic) && ids.some((id) => item.id === id || this.#aliases.get(keyOf({ topic: item.topic, id })) === item.id);
    if (!change) this.#items = this.#items.filter((item) => !meant(item));
    else this.#items = this.#items.map((item) => (meant(item) ? { ...item, ...change } : item));
  }

  #trim() {
    if (this.#items.length <= MOST) return;
    this.#items.length = MOST;
    this.#before = undefined; // a page would not fit the end any more
    this.#loaded = true;
    this.#round++;
  }

  /**
   * The user's stream arrived at a place: answered marks up to it are now part of what the gateway said.
   * @param {import("./position.js").Position} pos
   */
  #reached(pos) {
    this.#head = pos;
    this.#marks = this.#marks.filter((m) => !m.answered || !m.pos || (m.pos.epoch === pos.epoch && !covers(pos, m.pos)));
  }

  /** What should have replaced the list was lost with the connection: the next one is asked for it, where there was a list. */
  renew() {
    if (!this.#loaded) return;
    this.#loaded = false;
    this.#before = this.#page = undefined;
    this.#round++;
    this.more().catch(() => {}); // until it came, more() brings it
  }

  /**
   * An `inbox` frame that is the whole list.
   * @param {Frame} frame
   */
  replace(frame) {
    this.#round++;
    this.#loaded = true;
    this.#items = (frame.items ?? []).map(itemOf);
    this.#before = frame.before ?? undefined;
    for (const [topic, pos] of Object.entries(frame.at ?? {})) this.#at.set(topic, parse(pos));
    for (const mark of this.#marks) mark.later.clear();
    if (frame.badge) this.#take(frame.badge);
    const own = parse(frame.at?.[this.#own]);
    if (own) this.#reached(own);
    this.#trim();
    this.#changed();
  }

  /**
   * Loads the next page, or the first.
   * @param {number} [limit] 1–100
   * @returns {Promise<Item[]>} what was added; nothing when the list was complete, or was replaced meanwhile
   */
  more(limit = 50) {
    if (!this.hasMore) return Promise.resolve([]);
    return (this.#page ??= new Promise((resolve, reject) => {
      const round = this.#round;
      const before = this.#before;
      this.#requests.ask(/** @type {any} */ ({ type: "inbox", limit, before }), (error, frame) => {
        this.#page = undefined;
        if (error) reject(error);
        else resolve(round === this.#round ? this.#paged(frame, before !== undefined) : []);
      });
    }));
  }

  /**
   * A page behind the list does not say that the list in front of it is as new: frames up to its `at` still count, and
   * change nothing in it that they have not changed already.
   * @param {Frame} frame
   * @param {boolean} append
   */
  #paged(frame, append) {
    if (!append) {
      this.replace(frame);
      return this.items;
    }
    const held = new Set(this.#items.map(keyOf));
    const items = (frame.items ?? []).map(itemOf).filter((/** @type {Item} */ item) => !held.has(keyOf(item)));
    this.#items = [...this.#items, ...items];
    this.#before = frame.before ?? undefined;
    if (frame.badge) this.#take(frame.badge);
    this.#trim();
    this.#changed();
    return items;
  }

  /**
   * Marks at once here, and at the gateway. Rejects, and is rolled back, when the gateway refuses. What is no target
   * rejects with a TypeError and changes nothing.
   * @param {MarkName} name
   * @param {MarkTarget} target
   * @returns {Promise<MarkResult>}
   */
  async mark(name, target) {
    const wish = targetOf(target);
    const parts = "ids" in wish ? pieces(wish.ids, MARK_IDS).map((ids) => ({ ids })) : [wish];
    const results = await Promise.all(parts.map((part) => this.#send(name, part)));
    const unknown = results.flatMap((result) => result.unknown ?? []);
    /** @type {MarkResult} */
    const sum = { changed: results.reduce((n, { changed }) => n + changed, 0) };
    if (unknown.length) sum.unknown = unknown;
    for (const { pos } of results) if (pos) sum.pos = pos;
    return sum;
  }

  /**
   * @param {MarkName} name
   * @param {import("./marks.js").Target} part that fits one frame
   * @returns {Promise<MarkResult>}
   */
  #send(name, part) {
    const mark = new Mark(name, this.#current(part), this.#own);
    this.#marks.push(mark);
    const done = new Promise((resolve, reject) => {
      this.#requests.ask({ type: name, ...part }, (error, { changed = 0, unknown, pos }) => {
        mark.answered = true;
        mark.pos = parse(pos);
        if (error || !mark.pos || covers(this.#head, mark.pos)) this.#marks = this.#marks.filter((m) => m !== mark);
        if (error) reject(error);
        else resolve({ changed, unknown, pos });
        this.#changed();
      });
    });
    this.#changed();
    return done;
  }

  /**
   * The target with ids of replaced items turned into their successors'.
   * @param {import("./marks.js").Target} target
   * @returns {import("./marks.js").Target}
   */
  #current(target) {
    if (!("ids" in target)) return target;
    const topics = [...new Set(this.#items.map((item) => item.topic))];
    const successors = target.ids.flatMap((id) => topics.map((topic) => this.#aliases.get(keyOf({ topic, id })) ?? id));
    return { ids: [...new Set([...target.ids, ...successors])] };
  }
}

/**
 * @param {any} fields
 * @returns {Item}
 */
function itemOf(fields) {
  return { seen: false, read: false, archived: false, ...fields };
}
