/**
 * The answer to a chat as a stream of events, over either transport:
 *     {kind: "queued", position, eta}     while the request waits
 *     {kind: "chunk", chunk}              a chat.completion.chunk
 */

import { Failure } from "../lib/failure.js";
import { t } from "../lib/i18n.js";

const QUEUED = /^queued position=(\d+)(?: eta_seconds=([\d.]+))?/;

/**
 * Over HTTP, as server-sent events. Aborting hangs up, which cancels the generation.
 *
 * @param {import("../lib/client.js").Client} client
 * @param {object} body of POST /v1/chat/completions.
 * @param {AbortSignal} signal
 */
export async function* answerOverHttp(client, body, signal) {
  for await (const event of client.events("v1/chat/completions", { body, signal })) {
    if ("comment" in event) {
      const queued = QUEUED.exec(event.comment);
      if (queued)
        yield { kind: "queued", position: Number(queued[1]), eta: numberOrNull(queued[2]) };
    } else if (event.data === "[DONE]") {
      return;
    } else {
      const chunk = JSON.parse(event.data);
      if (chunk.error) throw Failure.inStream(chunk.error);
      yield { kind: "chunk", chunk };
    }
  }
  throw new Failure(t("failure.cut"));
}

function numberOrNull(text) {
  return text === undefined ? null : Number(text);
}
