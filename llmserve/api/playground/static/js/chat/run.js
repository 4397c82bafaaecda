/** One answer being written: asked for, shown as it grows, and kept in its conversation. */

import { Failure } from "../lib/failure.js";
import { Answer } from "./answer.js";
import { AnswerView } from "./answer_view.js";

const SAVE_MS = 1000;

export class Run {
  /**
   * @param {import("./conversation.js").Conversation} conversation
   * @param {AnswerView} view
   * @param {() => void} save keeps the conversation.
   */
  constructor(conversation, view, save) {
    this.conversation = conversation;
    this.view = view;
    this.failure = null;
    this.message = null;
    this.save = save;
    this.savedAt = 0;
    this.stopping = new AbortController();
  }

  /** End it; the server is told. */
  stop() {
    this.stopping.abort();
  }

  /**
   * Read the answer to its end. What has come is kept, however it ends; `failure` says why it ended
   * early.
   *
   * @param {(signal: AbortSignal) => AsyncIterable<object>} ask
   */
  async read(ask) {
    const answer = new Answer();
    this.view.showWaiting();
    try {
      for await (const event of ask(this.stopping.signal)) {
        if (event.kind === "queued") this.view.showQueued(event.position, event.eta);
        else this.#take(answer, event.chunk);
      }
    } catch (error) {
      if (!this.stopping.signal.aborted) this.failure = failureOf(error);
    }
    if (this.stopping.signal.aborted) answer.finishReason = "stopped";
    this.#keep(answer);
    if (this.message !== null) this.view.showWhole(this.message);
    this.save();
  }

  #take(answer, chunk) {
    answer.take(chunk);
    if (answer.firstAt === null) return;
    this.#keep(answer);
    this.view.grow(answer);
    if (performance.now() - this.savedAt > SAVE_MS) {
      this.savedAt = performance.now();
      this.save();
    }
  }

  /** What there is of it becomes the conversation's last message. */
  #keep(answer) {
    if (answer.firstAt === null && this.message === null && answer.usage === null) return;
    if (this.message === null) {
      this.message = { role: "assistant" };
      this.conversation.messages.push(this.message);
    }
    const { content, reasoning, finishReason, model } = answer;
    Object.assign(this.message, { content, finishReason, model, stats: answer.stats() });
    if (reasoning !== "") this.message.reasoning = reasoning;
    if (answer.toolCalls.length > 0) this.message.toolCalls = answer.toolCalls;
  }
}

/** Every error but the server's is a bug of ours: the console has it, too. */
function failureOf(error) {
  if (error instanceof Failure) return error;
  reportError(error);
  return new Failure(String(error));
}
