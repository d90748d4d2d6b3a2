// The switches that say which categories come in. They stand at the gateway, so all devices of a person have the same.
import { byId, el } from "./dom.js";
import { categories } from "./categories.js";
import { failed } from "./toast.js";

/** @param {{client: object, changed: (mute: string[]) => void}} options changed hears every choice, of whatever device */
export function muteSwitches({ client, changed }) {
  const { inbox } = client;
  const button = byId("tune"), box = byId("mutes");
  const inputs = new Map();
  let muted = []; // others may have muted what has no switch here: it stays

  for (const [category, { name, always }] of Object.entries(categories)) {
    const input = el("input", { type: "checkbox", role: "switch", "data-testid": `lets-${category}`, disabled: Boolean(always), onchange: () => set(category, input.checked) });
    input.checked = true;
    inputs.set(category, input);
    box.append(el("label", {}, el("span", {}, name, always ? el("small", {}, " always: somebody needs you") : ""), input));
  }

  function show({ mute }) {
    muted = mute;
    for (const [category, input] of inputs) input.checked = !mute.includes(category) || input.disabled;
    changed(mute);
  }

  async function set(category, comesIn) {
    const others = muted.filter((one) => one !== category);
    try {
      await inbox.mute(comesIn ? others : [...others, category]);
    } catch (error) {
      show({ mute: muted });
      failed("That did not reach Allim", error);
    }
  }

  button.addEventListener("click", () => {
    box.hidden = !box.hidden;
    button.setAttribute("aria-expanded", String(!box.hidden));
  });
  client.on("preferences", show);
  inbox.preferences().catch(() => {}); // the connection's end: what is chosen then is told by the next change
}
