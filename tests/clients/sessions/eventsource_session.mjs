// A session with npm's `eventsource` through a proxy on this machine that cuts the first connection.
import net from "node:net";
import { EventSource } from "eventsource";

const server = new URL(process.argv[2]);
const EVENTS_BEFORE_CUT = 3;

let connections = 0;
let cut = () => {};

/** Passes bytes on; the first connection is cut when `cut` is called. */
const proxy = net.createServer((client) => {
  connections += 1;
  const upstream = net.connect(Number(server.port), server.hostname);
  const end = () => {
    client.destroy();
    upstream.destroy();
  };
  if (connections === 1) cut = end;
  client.pipe(upstream).pipe(client);
  for (const socket of [client, upstream]) {
    socket.on("error", end);
    socket.on("close", end);
  }
});
await new Promise((resolve) => proxy.listen(0, "127.0.0.1", resolve));

const query = "prompt=Once+upon+a+time&max_tokens=200&temperature=0&ignore_eos=true";
const source = new EventSource(`http://127.0.0.1:${proxy.address().port}/stream?${query}`);
const ids = [];
let text = "";
source.onmessage = (event) => {
  ids.push(event.lastEventId);
  text += JSON.parse(event.data).token;
  if (ids.length === EVENTS_BEFORE_CUT) cut();
};
const done = await new Promise((resolve) => {
  source.addEventListener("done", (event) => resolve(JSON.parse(event.data)));
});
// Not closed: what it does when the stream has ended is the server's to decide.
const code = await new Promise((resolve) => {
  source.onerror = (error) => {
    if (source.readyState === EventSource.CLOSED) resolve(error.code);
  };
});
source.close();
proxy.close();
console.log(JSON.stringify({ ids, text, done, connections, code }));
process.exit(0);
