// Runs Perfetto's trace processor (the WebAssembly build of its UI) under node: TraceProcessorRpcStream in on
// stdin, out on stdout. `perfetto_sql.py` speaks the protocol. Usage: node perfetto_engine.js UI_FOLDER
const fs = require('fs');
const path = require('path');

const folder = process.argv[2];
const fileOf = (url) => fs.readFileSync(path.join(folder, path.basename(String(url))));

// What the bundle expects of the Web Worker that it is written for.
globalThis.self = globalThis;
self.location = { href: 'http://localhost/' };
globalThis.WorkerGlobalScope = class {};
globalThis.importScripts = () => {};
globalThis.fetch = async (url) => new Response(fileOf(url), { headers: { 'Content-Type': 'application/wasm' } });
globalThis.XMLHttpRequest = class {
  open(_method, url) { this.url = url; }
  send() {
    const file = fileOf(this.url);
    this.status = 200;
    this.response = file.buffer.slice(file.byteOffset, file.byteOffset + file.byteLength);
    setImmediate(() => this.onload && this.onload());
  }
};

const port = { postMessage: (bytes) => fs.writeSync(1, Buffer.from(bytes)) };
// Without node's own names in scope, the bundle takes itself to be in a browser.
const bundle = fs.readFileSync(path.join(folder, 'engine_bundle.js'), 'utf8');
new Function('process', 'require', 'module', 'exports', 'window', bundle)();
self.onmessage({ data: port });
process.stdin.on('data', (bytes) => port.onmessage({ data: new Uint8Array(bytes) }));
