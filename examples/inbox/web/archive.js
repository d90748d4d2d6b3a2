// What was archived: it is no part of the live list, so it is asked for over HTTP when somebody wants to see it.
import * as api from "./api.js";
import { failed } from "./toast.js";

const moves = ["archive", "unarchive", "delete", "read", "unread"]; // marks that change what is shown of it

/** @param {{client: object, who: object, changed: () => void}} options */
export function archiveOf({ client, who, changed }) {
  let items = [], shown = false, asked = 0;

  async function load() {
    const turn = ++asked;
    try {
      const page = await api.archived(who);
      if (turn !== asked) return; // somebody asked again: that answer is the newer one
      items = page.items;
      changed();
    } catch (error) {
      failed("The archive did not come", error);
    }
  }

  client.on("frame", ({ change = {} }) => { if (shown && moves.some((name) => change[name])) load(); });
  client.on("welcome", () => { if (shown) load(); });

  return {
    get items() { return items; },
    show(yes) {
      shown = yes;
      if (yes) load();
    },
  };
}
