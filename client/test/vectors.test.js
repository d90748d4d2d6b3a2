// Every frame that the contract's vectors show must be one that this client knows.
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { decode, known } from "../src/frames.js";

const dir = new URL("../../proto/client/vectors/", import.meta.url);
const files = existsSync(dir) ? readdirSync(dir).filter((name) => name.endsWith(".json")) : [];

test("frames of the gateway are known, in every vector", { skip: files.length === 0 && "proto/client/vectors is empty" }, async (t) => {
  const seen = new Set();
  for (const file of files) {
    const { frames = [] } = JSON.parse(readFileSync(new URL(file, dir), "utf8"));
    for (const { name, kind, direction, from, frame } of frames) {
      if (/client|page|up/.test(String(kind ?? direction ?? from))) continue;
      await t.test(`${file}: ${name}`, () => {
        assert.ok(known.has(frame.type), `type ${frame.type}`);
        assert.deepEqual(decode(JSON.stringify(frame)), frame);
      });
      seen.add(frame.type);
    }
  }
  assert.ok(seen.has("welcome") && seen.has("message") && seen.has("notification"), `got only ${[...seen]}`);
});
