// The inbox over HTTP as pages reach it, with the cookie that the app at PAGES has set. Environment: GATEWAY and PAGES (http://localhost:port, of another
// origin and the same site), TOKEN (of the same user). It tells what each page got.
import { launch, tell } from "./chromium.mjs";

const { GATEWAY: gateway, PAGES: pages, TOKEN: token } = process.env;
const elsewhere = pages.replace("localhost", "evil.localhost"); // the same server to a browser that knows no such site
const number = pages.replace("localhost", "127.0.0.1"); // let in as loopback is, but another site than localhost

/** Runs in the page: what fetch brings. */
async function ask([url, options]) {
  try {
    const r = await fetch(url, { credentials: "include", ...options });
    return { status: r.status, type: r.type, retry: r.headers.get("Retry-After"), body: await r.json().catch(() => null) };
  } catch (error) {
    return { failed: error.name };
  }
}

const json = { "Content-Type": "application/json" };
const mark = (ids, more = {}) => ({ method: "POST", headers: json, body: JSON.stringify({ ids }), ...more });

const browser = await launch();
try {
  const context = await browser.newContext();
  const app = await context.newPage();
  await app.goto(`${pages}/`);
  const from = (page) => (path, options) => page.evaluate(ask, [gateway + path, options]);

  const here = from(app);
  tell("badge", await here("/v1/badge"));
  tell("inbox", await here("/v1/inbox?limit=1"));
  tell("read", await here("/v1/inbox/read", mark(["n1"])));
  tell("unknown", await here("/v1/inbox/tickle", mark(["n1"])));
  tell("text", await here("/v1/inbox/read", { method: "POST", body: '{"ids":["n2"]}' })); // what a form could send as well
  tell("no cookie", await here("/v1/badge", { credentials: "omit" }));
  tell("token", await here("/v1/badge", { credentials: "omit", headers: { Authorization: `Bearer ${token}` } }));
  let hasty;
  for (let n = 0; n < 100 && hasty?.status !== 429; n++) hasty = await here("/v1/inbox?limit=1");
  tell("hasty", hasty);

  const evil = await context.newPage();
  await evil.goto(`${elsewhere}/`);
  const there = from(evil);
  tell("evil badge", await there("/v1/badge"));
  tell("evil read", await there("/v1/inbox/read", mark(["n2"])));
  tell("evil blind read", await there("/v1/inbox/read", { method: "POST", mode: "no-cors", body: '{"ids":["n2"]}' }));
  const [link] = await Promise.all([
    evil.waitForResponse((r) => r.url() === `${gateway}/v1/inbox`),
    evil.evaluate((url) => void (location.href = url), `${gateway}/v1/inbox`),
  ]);
  tell("evil link", { status: link.status(), cookie: (await link.request().allHeaders()).cookie !== undefined });
  const worse = await context.newPage();
  await worse.goto(`${elsewhere}/`);
  const [form] = await Promise.all([
    worse.waitForResponse((r) => r.url() === `${gateway}/v1/inbox/read`),
    worse.evaluate((url) => {
      document.body.innerHTML = `<form method="post" enctype="text/plain" action="${url}"><input name='{"ids":["n2"],"x":"' value='"}'></form>`;
      document.forms[0].submit();
    }, `${gateway}/v1/inbox/read`),
  ]);
  tell("evil form", { status: form.status() });

  const far = await context.newPage();
  await far.goto(`${number}/`);
  tell("another site of ours", await from(far)("/v1/badge"));
} finally {
  await browser.close();
}
