// The chips above the list: everything, one category, or what was archived. Of a category they count what is unread.
import { byId, el, icon } from "./dom.js";
import { categories } from "./categories.js";

export const everything = "all", archived = "archive";

/** @param {(filter: string) => void} chosen */
export function filterChips(chosen) {
  const chips = new Map();
  let now = everything;

  const choose = (filter) => {
    now = filter;
    for (const [name, { chip }] of chips) chip.setAttribute("aria-pressed", String(name === now));
    chosen(now);
  };
  for (const [filter, name] of [[everything, "All"], ...Object.entries(categories).map(([category, { name }]) => [category, name]), [archived, "Archive"]]) {
    const count = el("b"), silent = el("span", { class: "chip-mute", hidden: true }, icon("mute"), el("span", { class: "unseen" }, " (muted)"));
    const chip = el("button", { class: "chip", type: "button", "data-testid": `filter-${filter}`, "aria-pressed": String(filter === now), onclick: () => choose(filter) }, name, " ", count, silent);
    chips.set(filter, { chip, count, silent });
    byId("filters").append(chip);
  }

  return {
    get now() { return now; },
    choose,
    /** @param {{unread: number, by: Record<string, number>}} badge */
    count({ by = {} }) {
      for (const category of Object.keys(categories)) chips.get(category).count.textContent = by[category] ? String(by[category]) : "";
    },
    /** @param {string[]} mute */
    mute(mute) {
      for (const category of Object.keys(categories)) chips.get(category).silent.hidden = !mute.includes(category);
    },
  };
}
