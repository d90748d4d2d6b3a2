// The machine's own Chromium, without a window and without anything that it does for itself in the network.
import { chromium } from "playwright-core";

/** Starts it. Whoever starts it closes it; it also ends with this process. */
export function launch() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
    args: [
      "--headless",
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
}

/** Says something to the Go test that runs this script: one line of JSON. */
export function tell(what, value = null) {
  process.stdout.write(`${JSON.stringify({ what, value })}\n`);
}

/** Settles when the Go test has seen enough: it closes our standard input. */
export function dismissed() {
  return new Promise((resolve) => process.stdin.resume().once("end", resolve));
}
