// push.js: has what no device shows in time pushed to this browser, also while no page is open. The page brings the
// service worker that shows it.
import { AllimError } from "./requests.js";

const ANSWER_MS = 10_000;

export class Push {
  #url;
  #token;

  /**
   * @param {URL} socket the gateway's `/v1/ws`
   * @param {() => Promise<string>} token "" = none: the cookie speaks for the page
   */
  constructor(socket, token) {
    this.#url = new URL(socket.pathname.endsWith("/ws") ? "push" : "/v1/push", socket);
    this.#url.protocol = socket.protocol.replace("ws", "http");
    this.#url.search = "";
    this.#token = token;
  }

  /**
   * Call it where the person clicked: that is when browsers ask for permission. Asked again it renews what it did; where the
   * gateway has another key than last time it subscribes anew.
   * @param {ServiceWorkerRegistration} registration with an active worker
   * @returns {Promise<PushSubscription>} rejects with what the browser says, or with an AllimError: "bad_frame" where
   *   nothing is pushed
   */
  async subscribe({ pushManager }) {
    const { public_key: applicationServerKey } = await this.#call("GET");
    const ask = () => pushManager.subscribe({ userVisibleOnly: true, applicationServerKey });
    const subscription = await ask().catch(async (error) => {
      const old = error.name === "InvalidStateError" && (await pushManager.getSubscription());
      if (!old) throw error;
      await old.unsubscribe(); // of another key
      return ask();
    });
    await this.#call("POST", { subscription });
    return subscription;
  }

  /**
   * For good, and when the user logs out: else it goes on for the one who was there.
   * @param {ServiceWorkerRegistration} registration
   */
  async unsubscribe({ pushManager }) {
    const subscription = await pushManager.getSubscription();
    if (!subscription) return;
    await subscription.unsubscribe(); // first: nothing comes any more, though the gateway may not be there
    await this.#call("DELETE", { endpoint: subscription.endpoint });
  }

  /**
   * @param {string} method
   * @param {object} [body]
   * @returns {Promise<any>}
   */
  async #call(method, body) {
    const token = await this.#token();
    /** @type {Record<string, string>} */
    const headers = token ? { Authorization: "Bearer " + token } : {};
    if (body) headers["Content-Type"] = "application/json";
    const signal = AbortSignal.timeout(ANSWER_MS);
    const response = await fetch(this.#url, { method, headers, body: JSON.stringify(body), credentials: "include", signal }).catch((error) => {
      throw new AllimError("unavailable", String(error));
    });
    const answer = await response.json().catch(() => ({}));
    if (!response.ok) throw new AllimError(answer.code ?? "unavailable", answer.message);
    return answer;
  }
}
