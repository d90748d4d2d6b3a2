// Against a real gateway: runs when ALLIM_URL (its /v1/ws) and ALLIM_TOKEN (of a user who may hear ALLIM_TOPIC) are
// set. The Go test that starts the gateway publishes one message with id ALLIM_MESSAGE to ALLIM_TOPIC and one
// notification with id ALLIM_NOTIFICATION to the user, when this test has printed `ready` on a line of its own. Run it as
// `node test/gateway.test.js`: under `node --test` the line becomes `# ready`.
import assert from "node:assert/strict";
import { writeSync } from "node:fs";
import { test } from "node:test";
import { connect } from "../src/index.js";
import { until, WebSocket } from "./kit/gateway.js";

const { ALLIM_URL: url, ALLIM_TOKEN: token, ALLIM_TOPIC: topic, ALLIM_MESSAGE, ALLIM_NOTIFICATION } = process.env;
const unset = !(url && token) && "ALLIM_URL and ALLIM_TOKEN are not set";

test("a page connects, hears, is notified, marks and pages through a real gateway", { skip: unset }, async (t) => {
  const allim = connect({ url, token, WebSocket, inbox: 20 });
  t.after(() => allim.close());
  await until("open", () => allim.state === "open");
  await until("the list", () => allim.inbox.badge.rev !== undefined);
  const messages = [];
  const notifications = [];
  allim.on("notification", (item) => notifications.push(item));
  if (topic) await allim.subscribe(topic, (message) => messages.push(message.id)).ready;
  writeSync(1, "\nready\n");
  if (topic && ALLIM_MESSAGE) await until("the message", () => messages.includes(ALLIM_MESSAGE));
  if (!ALLIM_NOTIFICATION) return;
  await until("the notification", () => notifications.some(({ id }) => id === ALLIM_NOTIFICATION));
  const held = () => allim.inbox.items.find(({ id }) => id === ALLIM_NOTIFICATION);
  const { unread } = allim.inbox.badge;
  assert.equal(held().read, false);
  const { changed } = await allim.inbox.read(ALLIM_NOTIFICATION);
  assert.equal(changed, 1);
  await until("the badge", () => allim.inbox.badge.unread === unread - 1 && held().read);
  assert.ok(Array.isArray(await allim.inbox.more(5)));
  const chosen = [];
  allim.on("preferences", ({ mute }) => chosen.push(mute.join()));
  await allim.inbox.mute(["order", "mention"]);
  assert.deepEqual(await allim.inbox.preferences(), { mute: ["mention", "order"] });
  await until("told of it", () => chosen.includes("mention,order"));
});
