/** An answer on the page: what the model thinks, what it says, what it calls, and what it cost. */

import { copyButton } from "../lib/copying.js";
import { h } from "../lib/dom.js";
import { language, setText } from "../lib/i18n.js";
import { Typewriter } from "../text/typewriter.js";
import { callViews } from "./tool_calls.js";

export class AnswerView {
  /** @param {() => void} [onGrown] the answer takes more room than before. */
  constructor(onGrown = () => {}) {
    this.prose = h("div", { class: "prose said" });
    this.reasoningKey = "reasoning";
    this.thoughts = h("div", { class: "prose" });
    this.reasoning = h(
      "details",
      { class: "reasoning", hidden: true },
      h("summary", { t: "reasoning" }),
      this.thoughts,
    );
    this.calls = h("div", { class: "calls" });
    this.waiting = h("p", { class: "waiting" });
    this.actions = h("div", { class: "actions" });
    this.notes = h("p", { class: "stats" });
    this.element = h(
      "article",
      { class: "message assistant" },
      h("h2", { class: "offscreen", t: "assistant" }),
      this.waiting,
      this.reasoning,
      this.prose,
      this.calls,
      h("footer", {}, this.notes, this.actions),
    );
    this.typewriter = new Typewriter(this.prose);
    this.thinking = new Typewriter(this.thoughts);
    this.typewriter.onDrawn = onGrown;
    this.thinking.onDrawn = onGrown;
  }

  /** Nothing has come yet. */
  showWaiting() {
    this.element.classList.add("running");
    setText(this.waiting, "text", "waiting");
  }

  /**
   * It waits for its turn.
   *
   * @param {number} position
   * @param {number|null} eta seconds.
   */
  showQueued(position, eta) {
    const seconds = eta === null ? null : Math.ceil(eta);
    if (seconds === null) setText(this.waiting, "text", "queued", { position });
    else setText(this.waiting, "text", "queued.eta", { position, seconds });
  }

  /**
   * More of it has come.
   *
   * @param {{content: string, reasoning: string, toolCalls: object[]}} answer
   */
  grow({ content, reasoning, toolCalls }) {
    this.waiting.hidden = true;
    if (reasoning !== this.thinking.text) {
      this.reasoning.hidden = false;
      this.thinking.write(reasoning);
    }
    this.#nameReasoning(content === "" ? "reasoning.now" : "reasoning");
    if (content !== this.typewriter.text) this.typewriter.write(content);
    if (toolCalls.length > 0) this.calls.replaceChildren(...callViews(toolCalls));
  }

  /**
   * The whole of it, with what it cost.
   *
   * @param {import("./conversation.js").Message} message
   */
  showWhole(message) {
    this.element.classList.remove("running");
    this.waiting.hidden = true;
    this.grow({ reasoning: "", toolCalls: [], ...message });
    this.typewriter.finish();
    this.thinking.finish();
    this.#nameReasoning("reasoning");
    if (message.content !== "") this.actions.append(copyButton(() => message.content));
    this.notes.replaceChildren(...notesOf(message));
  }

  /** Not for every token. */
  #nameReasoning(key) {
    if (key === this.reasoningKey) return;
    this.reasoningKey = key;
    setText(this.reasoning.firstChild, "text", key);
  }

  /** @param {HTMLElement} button something that can be done to it. */
  offer(button) {
    this.actions.append(button);
  }
}

function notesOf({ stats, model, finishReason }) {
  const { tokens = null, ttft = null, rate = null } = stats ?? {};
  const notes = [];
  const add = (key, values) => {
    const note = h("span");
    setText(note, "text", key, values);
    notes.push(note);
  };
  if (finishReason === "stopped") add("ended.stopped", {});
  if (finishReason === "length") add("ended.length", {});
  if (finishReason === undefined || finishReason === null) add("ended.cut", {});
  if (tokens !== null) add(tokens === 1 ? "stats.token" : "stats.tokens", { count: tokens });
  if (ttft !== null) add("stats.ttft", { seconds: number(ttft, 2) });
  if (rate !== null) add("stats.rate", { rate: number(rate, rate < 10 ? 1 : 0) });
  if (model) notes.push(h("span", { text: model }));
  return notes;
}

function number(value, digits) {
  return value.toLocaleString(language(), {
    maximumFractionDigits: digits,
    minimumFractionDigits: digits,
  });
}
