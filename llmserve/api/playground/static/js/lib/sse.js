/** Server-sent events from the bytes of a response. Knows nothing of what they mean. */

/**
 * @typedef {object} ServerEvent
 * @property {string} name `message` where the server names none.
 * @property {string} data
 */

/** Splits text into events and comments, however the network cut it. */
export class EventParser {
  constructor() {
    this.rest = "";
    this.name = "";
    this.lines = [];
  }

  /**
   * What is complete with this piece of text.
   *
   * @param {string} text
   * @returns {Array<ServerEvent|{comment: string}>}
   */
  push(text) {
    const found = [];
    // A carriage return at the end may be the first half of a line's end.
    const lines = (this.rest + text).split(/\r\n|\n|\r(?!$)/);
    this.rest = lines.pop();
    for (const line of lines) this.#take(line, found);
    return found;
  }

  #take(line, found) {
    if (line === "") {
      if (this.lines.length > 0) {
        found.push({ name: this.name || "message", data: this.lines.join("\n") });
      }
      this.name = "";
      this.lines = [];
    } else if (line.startsWith(":")) {
      found.push({ comment: line.slice(1).trim() });
    } else {
      const colon = line.indexOf(":");
      const field = colon < 0 ? line : line.slice(0, colon);
      const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
      if (field === "event") this.name = value;
      if (field === "data") this.lines.push(value);
    }
  }
}

/**
 * The events of a response, as they come.
 *
 * @param {ReadableStream<Uint8Array>} body
 * @returns {AsyncGenerator<ServerEvent|{comment: string}>}
 */
export async function* eventsOf(body) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  const parser = new EventParser();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield* parser.push(decoder.decode(value, { stream: true }));
    }
  } finally {
    reader.cancel().catch(() => {}); // it is closed already if the request was aborted
  }
}
