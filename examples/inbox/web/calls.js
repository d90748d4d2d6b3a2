// Somebody is asked, and called if they do not look: the phone on the page, and the button that asks.
import * as api from "./api.js";
import { byId, el } from "./dom.js";
import { failed } from "./toast.js";

const over = ["looked", "answered", "missed"]; // states in which nothing follows
const shownFor = 60_000; // ms that what became of a call stays on the phone of a page that comes later

/**
 * @param {{client: object, who: object, tell: (line: object) => void, look: () => void}} options who: the session; tell adds a line to the
 *   story; look opens the bell
 */
export function phone({ client, who, tell, look }) {
  const box = byId("phone"), ask = byId("ask"), select = byId("ask-who"), answer = byId("answer");
  const me = who.user.id;
  const others = who.users.filter((user) => user.id !== me);
  if (!who.call_after_ms || others.length === 0) return; // nobody can be called
  box.hidden = false;
  const open = new Map(); // id of who is asked → the call that is not over
  const latest = new Map(); // id of a call → its state: a later state is not undone by an earlier one
  let shown, ticking;

  select.replaceChildren(...others.map((user) => el("option", { value: user.id }, user.name)));
  select.hidden = others.length === 1;
  const asked = () => others.find((user) => user.id === select.value);

  function render() {
    clearInterval(ticking);
    const state = shown?.state ?? "idle";
    box.dataset.state = state;
    byId("phone-words").textContent = shown ? sentence(shown, me) : `Something urgent? ${asked().name}’s phone rings if ${asked().name} has not looked at the bell in ${seconds(who.call_after_ms)}.`;
    answer.hidden = state !== "rings" || shown.to.id !== me;
    ask.textContent = `Ask ${asked().name}`;
    ask.disabled = open.has(asked().id);
    const left = () => Math.max(0, Math.min(shown.after_ms, Date.parse(shown.at) + shown.after_ms - Date.now()));
    const tick = () => { byId("phone-left").textContent = state === "waiting" ? Math.ceil(left() / 1000) : ""; };
    tick();
    if (state === "waiting") ticking = setInterval(tick, 250);
  }

  // Each message is the whole call, so one that was missed is made up for by the next.
  function heard({ data: call, time }) {
    const was = latest.get(call.id);
    if (over.includes(was) || (was === "rings" && call.state === "waiting")) return;
    latest.set(call.id, call.state);
    if (over.includes(call.state)) {
      open.delete(call.to.id);
      latest.delete(call.id);
    } else open.set(call.to.id, call);
    const old = over.includes(call.state) && Date.now() - Date.parse(time) > shownFor;
    if (!old) shown = call;
    tell({ drawing: call.state === "looked" ? "eye" : "phone", text: sentence(call, me), time });
    render();
  }

  select.addEventListener("change", render);
  answer.addEventListener("click", look);
  ask.addEventListener("click", async () => {
    ask.disabled = true;
    try {
      await api.ask(me, asked().id);
    } catch (error) {
      failed(`${asked().name} was not asked`, error);
      render();
    }
  });
  render();
  client.subscribe(who.calls, heard, { from: "0" }).ready.catch((error) => failed("Calls are not live", error)); // what is still in history is the story so far
}

const seconds = (ms) => `${Math.round(ms / 1000)} s`;

function sentence({ state, from, to, after_ms, took_ms }, me) {
  const asker = from.id === me ? "You" : from.name, asked = to.id === me ? "you" : to.name;
  const phone = to.id === me ? "your phone" : `${to.name}’s phone`, looker = to.id === me ? "You" : to.name;
  switch (state) {
    case "waiting": return `${asker} asked ${asked}: ${phone} rings in ${seconds(after_ms)}, unless ${to.id === me ? "you look" : `${to.name} looks`} at the bell.`;
    case "looked": return `${looker} looked after ${seconds(took_ms)}: the call is cancelled.`;
    case "rings": return `${phone[0].toUpperCase()}${phone.slice(1)} rings! Nobody had looked for ${seconds(after_ms)}.`;
    case "answered": return `${looker} picked up after ${seconds(took_ms)}.`;
    default: return `${looker} did not pick up.`;
  }
}
