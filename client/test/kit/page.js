// page.js: a page in a process of its own, on the WebSocket that Node itself brings: `node --experimental-websocket
// page.js <url>`. It says each state on a line.
import { connect } from "../../src/index.js";

const allim = connect({ url: process.argv[2], backoff: { minMs: 10, maxMs: 10 } });
allim.on("state", (state) => console.log(JSON.stringify(state)));
