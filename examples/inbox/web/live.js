// The words about the connection at the head of the page.
import { byId, el } from "./dom.js";

/** Shows the client's state from now on. */
export function showConnection(client) {
  let countdown;
  const show = (change) => {
    clearInterval(countdown);
    if (change.state !== "waiting") return render(change.state, words[change.state] ?? change.state, change);
    const until = Date.now() + (change.retryInMs ?? 0);
    const tick = () => {
      const left = Math.max(1, Math.ceil((until - Date.now()) / 1000));
      render("waiting", `Reconnecting in ${left} s`, change);
    };
    tick();
    countdown = setInterval(tick, 1000);
  };
  client.on("state", show);
  show({ state: client.state });
}

const words = { connecting: "Connecting …", open: "Live", closed: "Disconnected" };

/** Shows that there is no client at all. */
export const showNoClient = () => render("closed", "No gateway", { reason: "The browser client did not load from the gateway." });

function render(state, text, { reason = "" }) {
  const line = byId("live");
  const changed = line.dataset.state !== state;
  line.dataset.state = state;
  line.title = reason;
  // A countdown would be read out every second: only the change of state is announced.
  line.setAttribute("aria-live", changed ? "polite" : "off");
  line.querySelector(".live-text").textContent = text;
  line.querySelector("button")?.remove();
  if (state === "closed") {
    line.append(el("button", { class: "quiet", type: "button", "data-testid": "reconnect", onclick: () => location.reload() }, "Try again"));
  }
}
