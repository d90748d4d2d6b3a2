import assert from "node:assert/strict";
import { test } from "node:test";
import { decode, known, pieces } from "../src/frames.js";
import { covers, follows, parse } from "../src/position.js";

test("a frame that is no JSON object with a type, or lacks what its type needs, is refused", () => {
  for (const text of ["", "{", "null", "1", '"x"', "[]", "{}", '{"type":1}', '{"type":"message"}', '{"type":"message","topic":7}',
    '{"type":"notification","topic":"user:1"}', '{"type":"badge","badge":[]}', '{"type":"inbox","items":{}}', '{"type":"reset"}',
    '{"type":"error"}', '{"type":"welcome","topics":"x"}', '{"type":"move","after_ms":"soon"}']) {
    assert.equal(decode(text), null, text);
  }
  assert.equal(decode(new ArrayBuffer(2)), null);
});

test("unknown types and fields pass, null counts as absent, names of Object.prototype are types like others", () => {
  assert.deepEqual(decode('{"type":"allim:later","x":1}'), { type: "allim:later", x: 1 });
  assert.deepEqual(decode('{"type":"ok","x":1}'), { type: "ok", x: 1 });
  assert.deepEqual(decode('{"type":"constructor"}'), { type: "constructor" });
  assert.ok(decode('{"type":"inbox","items":null}'));
  assert.ok(!known.has("allim:later"));
});

test("lists are cut by number and by characters, nothing is lost", () => {
  const ids = Array.from({ length: 1201 }, (_, i) => "i".repeat(50) + i);
  const cut = pieces(ids, 500);
  assert.deepEqual(cut.flat(), ids);
  for (const piece of cut) assert.ok(piece.length && piece.length <= 500 && JSON.stringify(piece).length < 9000);
  assert.deepEqual(pieces(["a", "b", "c"], 2), [["a", "b"], ["c"]]);
  assert.deepEqual(pieces([], 2), []);
  assert.equal(pieces(["x".repeat(10_000), "y"], 5).length, 2);
});

test("positions are compared inside an epoch only", () => {
  assert.deepEqual(parse("k3abcd.41"), { epoch: "k3abcd", offset: 41 });
  assert.deepEqual(parse("-1790000000.0"), { epoch: "-1790000000", offset: 0 });
  for (const none of ["0", "", ".1", "k.", "k.-1", "k.1e3", null, undefined, 7]) assert.equal(parse(none), null, String(none));
  assert.ok(covers(parse("k.2"), parse("k.2")));
  assert.ok(covers(parse("k.10"), parse("k.9")));
  assert.ok(!covers(parse("k.2"), parse("k.3")));
  assert.ok(!covers(parse("k.2"), parse("j.1")));
  assert.ok(!covers(null, parse("k.1")) && !covers(parse("k.1"), null));
  assert.ok(follows(parse("k.9"), parse("k.10")));
  assert.ok(!follows(parse("k.9"), parse("k.11")) && !follows(parse("k.9"), parse("j.10")));
});
