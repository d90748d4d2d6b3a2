// build.js: makes dist/allim.js, one minified ES module, and prints its size. `node build.js --check` fails when the
// committed file is not what the sources give.
import { readFileSync, writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const LIMIT = 9.5 * 1024; // bytes, gzipped: what a page pays for us; the goal is 6 KiB, socket.io-client alone has 13
const file = new URL("dist/allim.js", import.meta.url);

const { outputFiles } = await build({
  absWorkingDir: new URL(".", import.meta.url).pathname,
  entryPoints: ["src/index.js"],
  bundle: true,
  format: "esm",
  target: "es2022",
  minify: true,
  legalComments: "none",
  banner: { js: "/*! Allim browser client. SPDX-License-Identifier: Apache-2.0 */" },
  write: false,
});
const [{ contents }] = outputFiles;
const gzipped = gzipSync(contents, { level: 9 }).length;
console.log(`dist/allim.js ${contents.length} bytes, ${gzipped} gzipped (limit ${LIMIT})`);
if (gzipped > LIMIT) throw new Error("the client has become too big");
if (!process.argv.includes("--check")) writeFileSync(file, contents);
else if (!readFileSync(file).equals(contents)) throw new Error("dist/allim.js is not what src/ gives: npm run build");
