import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";

test("dist/allim.js is what the sources give, and exports what they export", async () => {
  execFileSync(process.execPath, [new URL("../build.js", import.meta.url).pathname, "--check"]);
  const dist = await import("../dist/allim.js");
  const src = await import("../src/index.js");
  assert.deepEqual(Object.keys(dist).sort(), Object.keys(src).sort());
});
