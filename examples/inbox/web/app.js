// The page, put together: who am I, the connection, the orders, the bell.
import * as api from "./api.js";
import { bell } from "./bell.js";
import { phone } from "./calls.js";
import { byId, el, keepTimes } from "./dom.js";
import { showConnection, showNoClient } from "./live.js";
import { mentionDialog } from "./mention.js";
import { ordersTable } from "./orders.js";
import { story } from "./story.js";
import { failed } from "./toast.js";

const patience = 1500; // ms that the first look at the orders waits for the subscription

async function start() {
  const wanted = new URLSearchParams(location.search).get("user") ?? "";
  let who;
  try {
    who = await api.session(wanted);
  } catch (error) {
    if (error.status === 404 && wanted) return location.replace("/"); // nobody of that name: the first colleague
    failed("The page could not start", error);
    byId("live").dataset.state = "closed";
    return byId("live").replaceChildren("Disconnected ", el("button", { class: "quiet", type: "button", onclick: () => location.reload() }, "Try again"));
  }
  showPeople(who);

  const { mention, everyone } = mentionDialog({ me: who.user, users: who.users });
  const table = ordersTable({ me: who.user, mention });
  byId("mention").addEventListener("click", () => mention());
  byId("everyone").addEventListener("click", everyone);
  byId("new-order").addEventListener("click", (e) => table.create(e.currentTarget));
  keepTimes();

  const client = await connectTo(who);
  if (!client) {
    showNoClient();
    return table.load();
  }
  showConnection(client);
  const look = bell({ client, who, open: (url) => follow(url, table) });
  phone({ client, who, look, tell: story({ client }) });
  client.on("reset", ({ topic }) => { if (topic === who.topic) table.load(); });
  await loadOrders(client, who.topic, table);
  if (location.hash) follow(location.href, table);
}

// The client comes from the gateway: without it the shop still works, only nothing is live.
async function connectTo(who) {
  try {
    const { connect } = await import("/allim.js");
    const client = connect({
      url: who.gateway ? `${who.gateway}/v1/ws` : undefined,
      token: async () => (await api.session(who.user.id)).token, // asked again for each connection
      inbox: 20,
    });
    globalThis.allim = client; // for the curious, in the console
    return client;
  } catch (error) {
    failed("No live changes", error);
    return null;
  }
}

// The orders are fetched when the subscription stands, so that no change falls between the two. While the gateway is away
// they are fetched all the same, and once more when it is back.
async function loadOrders(client, topic, table) {
  const subscription = client.subscribe(topic, ({ data }) => table.put(data, { flash: true }));
  const ready = subscription.ready.then(() => true);
  const late = new Promise((resolve) => setTimeout(resolve, patience, false));
  try {
    const inTime = await Promise.race([ready, late]);
    await table.load();
    if (!inTime) ready.then(table.load, (error) => failed("The orders are not live", error));
  } catch (error) {
    failed("The orders are not live", error);
    await table.load();
  }
}

function showPeople({ user, users }) {
  byId("people").replaceChildren(...users.map(({ id, name }) => el("a", {
    href: `/?user=${encodeURIComponent(id)}`,
    "aria-current": id === user.id ? "true" : null,
    title: id === user.id ? `You are ${name}` : `Be ${name}; a middle click opens a second window`,
    "data-testid": `user-${id}`,
  }, name)));
}

// A notification's url comes from a publisher: an order of this page is shown, another web address opens in a new tab, and
// anything else (javascript:, data:) is nothing.
function follow(raw, table) {
  let url;
  try { url = new URL(raw, location.origin); } catch { return; }
  const order = /^#order-(\d{1,9})$/.exec(url.hash);
  if (url.origin === location.origin && url.pathname === "/" && order) table.reveal(Number(order[1]));
  else if (url.href !== location.href && /^https?:$/.test(url.protocol)) open(url, "_blank", "noopener");
}

start();
