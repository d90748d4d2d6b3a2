// index.js: the door of the browser client of Allim.
import { AllimError, Client } from "./client.js";

/**
 * Connects this page to a gateway and keeps it connected. Nothing happens at import; in a server-side render only
 * this call would fail (no WebSocket).
 *
 *     const allim = connect({ token: () => fetch("/token").then((r) => r.text()), inbox: 20 });
 *     allim.on("badge", ({ unread }) => (bell.textContent = unread));
 *     allim.subscribe("orders/all", ({ data }) => show(data));
 *
 * @param {import("./client.js").Options} [options]
 */
export function connect(options = {}) {
  return new Client(options);
}

export { AllimError, Client };
