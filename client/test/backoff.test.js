import assert from "node:assert/strict";
import { test } from "node:test";
import { Backoff } from "../src/backoff.js";

test("delays are uniform under a ceiling that doubles from 0.5 s to 30 s", () => {
  const ceilings = [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000];
  for (const chance of [0, 0.25, 0.999999]) {
    const backoff = new Backoff({}, () => chance);
    assert.deepEqual(ceilings.map(() => backoff.next()), ceilings.map((ceiling) => Math.round(chance * ceiling)));
  }
  const backoff = new Backoff({ minMs: 10, maxMs: 15 }, () => 1);
  assert.deepEqual([backoff.next(), backoff.next(), backoff.next()], [10, 15, 15]);
});

test("ten thousand pages come back spread over the whole of the first 500 ms", () => {
  const tenths = new Array(10).fill(0);
  for (let i = 0; i < 10_000; i++) tenths[Math.min(9, Math.floor(new Backoff().next() / 50))]++;
  for (const n of tenths) assert.ok(n > 800 && n < 1200, `got ${tenths}, want about 1000 in each tenth`);
});

test("a hint is the ceiling of the first delay alone, a pause comes before the jitter, and reset begins anew", () => {
  const backoff = new Backoff({}, () => 0.5);
  assert.equal(backoff.next({ hintMs: 4000 }), 2000);
  assert.equal(backoff.next({ hintMs: 4000 }), 500);
  assert.equal(backoff.next({ atLeastMs: 7000 }), 8000);
  backoff.reset();
  assert.equal(backoff.next(), 250);
});

test("a thousand failures do not overflow the ceiling", () => {
  const backoff = new Backoff({}, () => 1);
  for (let i = 0; i < 1100; i++) backoff.next();
  assert.equal(backoff.next(), 30_000);
});
