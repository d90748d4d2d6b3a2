// Opens the page at argv[2] and tells what it writes to its console, until dismissed. Then it tells the state of the page's `socket`.
import { dismissed, launch, tell } from "./chromium.mjs";

const browser = await launch();
try {
  const page = await browser.newPage();
  page.on("console", async (line) => tell("console", await Promise.all(line.args().map((arg) => arg.jsonValue()))));
  page.on("pageerror", (error) => tell("error", String(error)));
  await page.goto(process.argv[2]);
  await dismissed();
  tell("state", await page.evaluate("socket.readyState"));
  tell("extensions", await page.evaluate("socket.extensions"));
} finally {
  await browser.close();
}
