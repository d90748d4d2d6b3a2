// The dialog with which one person mentions another, or tells something to everyone.
import * as api from "./api.js";
import { byId, el } from "./dom.js";
import { toast } from "./toast.js";

const most = 280; // characters, as the backend counts them

/** Returns the functions that open the dialog: to mention somebody, about an order or about nothing, and to tell everyone. */
export function mentionDialog({ me, users }) {
  const dialog = byId("mention-dialog"), to = byId("mention-to"), text = byId("mention-text"), error = byId("mention-error"), send = byId("mention-send");
  const colleagues = users.filter((user) => user.id !== me.id);
  let about = 0, toAll = false;

  to.replaceChildren(...colleagues.map((user) => el("option", { value: user.id }, user.name)));
  byId("mention").disabled = colleagues.length === 0;
  byId("mention-label").textContent = colleagues.length === 1 ? `Mention ${colleagues[0].name}` : "Mention a colleague";

  const count = () => { byId("mention-left").textContent = `${most - [...text.value].length} left`; };
  text.addEventListener("input", () => { count(); error.textContent = ""; });
  // Enter sends, Shift+Enter is a new line; while an input method composes a word, Enter is its own.
  text.addEventListener("keydown", (e) => {
    if (e.key !== "Enter" || e.shiftKey || e.isComposing) return;
    e.preventDefault();
    byId("mention-form").requestSubmit();
  });
  byId("mention-cancel").addEventListener("click", () => dialog.close());
  byId("mention-form").addEventListener("submit", async (e) => {
    e.preventDefault();
    if (send.disabled) return;
    send.disabled = true;
    try {
      const { to: told, muted } = await (toAll ? api.everyone(me.id, text.value) : api.mention(me.id, to.value, text.value, about));
      dialog.close();
      text.value = "";
      if (toAll) toast("Everyone was told");
      else if (muted) toast(`${told.name} does not hear of mentions`, { text: `${told.name} has muted them: nothing came in.` });
      else toast(`${told.name} was told`);
    } catch (problem) {
      error.textContent = problem.message;
      text.focus();
    } finally {
      send.disabled = false;
    }
  });

  const show = (title) => {
    byId("mention-title").textContent = title;
    to.hidden = byId("mention-to-label").hidden = toAll;
    error.textContent = "";
    count();
    dialog.showModal();
    text.focus();
  };
  return {
    mention(order = 0) {
      about = order;
      toAll = false;
      const who = colleagues.length === 1 ? colleagues[0].name : "a colleague";
      show(order ? `Mention ${who} on order ${order}` : `Mention ${who}`);
    },
    everyone() {
      toAll = true;
      show("Tell everyone");
    },
  };
}
