/** The answer to a chat over a WebSocket: the same events as `answerOverHttp` gives. */

import { SERVER } from "../lib/client.js";
import { Failure } from "../lib/failure.js";
import { t } from "../lib/i18n.js";

const SUBPROTOCOL = "llmserve";
const KEY = "llmserve.key.";
/** What a subprotocol may consist of. */
const TOKEN = /^[\w!#$%&'*+.^`|~-]+$/;
const STOP_MS = 2000;

/**
 * Over a socket of its own. Aborting cancels the generation in band.
 *
 * @param {import("../lib/client.js").Client} client
 * @param {object} body of POST /v1/chat/completions.
 * @param {AbortSignal} signal
 */
export async function* answerOverSocket(client, body, signal) {
  const socket = await opened(client, signal);
  const frames = new Frames(socket);
  const stop = () => {
    socket.send(JSON.stringify({ type: "cancel", id: "answer" }));
    setTimeout(() => socket.close(), STOP_MS);
  };
  signal.addEventListener("abort", stop);
  try {
    socket.send(JSON.stringify({ ...body, type: "chat", id: "answer" }));
    for (;;) {
      const frame = await frames.next();
      if (frame.type === "error")
        throw Failure.inStream(frame.error, frame.status, frame.retry_after);
      if (frame.type === "queued") {
        yield { kind: "queued", position: frame.position, eta: frame.eta_seconds };
      }
      if (frame.type === "chunk") yield { kind: "chunk", chunk: frame.chunk };
      if (frame.type === "done") return;
    }
  } finally {
    signal.removeEventListener("abort", stop);
    socket.close();
  }
}

/** The frames of a socket, one by one, however fast they come. */
class Frames {
  constructor(socket) {
    this.waiting = [];
    this.wake = () => {};
    this.isClosed = false;
    socket.addEventListener("message", ({ data }) => {
      this.waiting.push(JSON.parse(data));
      this.wake();
    });
    socket.addEventListener("close", () => {
      this.isClosed = true;
      this.wake();
    });
  }

  async next() {
    while (this.waiting.length === 0) {
      if (this.isClosed) throw new Failure(t("failure.cut"));
      await new Promise((resolve) => (this.wake = resolve));
    }
    return this.waiting.shift();
  }
}

async function opened(client, signal) {
  const url = new URL("v1/chat/completions", SERVER);
  url.protocol = url.protocol.replace("http", "ws");
  const key = client.keys.value;
  if (key && !TOKEN.test(key)) throw new Failure(t("failure.socket_key"));
  const socket = new WebSocket(url, key ? [SUBPROTOCOL, KEY + key] : [SUBPROTOCOL]);
  const giveUp = () => socket.close();
  signal.addEventListener("abort", giveUp);
  await new Promise((resolve, reject) => {
    socket.addEventListener("open", resolve, { once: true });
    socket.addEventListener("close", reject, { once: true });
  }).catch(async () => {
    // A browser does not say why a socket was refused: the same key is asked for over HTTP.
    if (!signal.aborted) await client.models();
    throw new Failure(t("failure.socket"));
  });
  signal.removeEventListener("abort", giveUp);
  return socket;
}
