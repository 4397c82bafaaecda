/** One answer of a model, put together from the chunks of its stream. Knows no page. */

export class Answer {
  /** @param {() => number} now milliseconds; the clock that times tokens. */
  constructor(now = () => performance.now()) {
    this.now = now;
    this.begunAt = now();
    this.firstAt = null;
    this.lastAt = null;
    this.content = "";
    this.reasoning = "";
    this.toolCalls = [];
    this.finishReason = null;
    this.model = "";
    this.usage = null;
  }

  /**
   * Add one chunk.
   *
   * @param {object} chunk a chat.completion.chunk.
   */
  take(chunk) {
    this.model = chunk.model ?? this.model;
    this.usage = chunk.usage ?? this.usage;
    const [choice] = chunk.choices ?? [];
    if (choice === undefined) return;
    const { content, reasoning_content: reasoning, tool_calls: calls } = choice.delta;
    if (content || reasoning || calls) {
      this.lastAt = this.now();
      this.firstAt ??= this.lastAt;
    }
    this.content += content ?? "";
    this.reasoning += reasoning ?? "";
    for (const call of calls ?? []) this.#takeCall(call);
    this.finishReason = choice.finish_reason ?? this.finishReason;
  }

  /**
   * What it cost, as far as it is known; times are in seconds.
   *
   * @returns {{promptTokens: number|null, tokens: number|null, ttft: number|null, rate: number|null}}
   */
  stats() {
    const tokens = this.usage?.completion_tokens ?? null;
    const ttft = this.firstAt === null ? null : (this.firstAt - this.begunAt) / 1000;
    const seconds = this.firstAt === null ? 0 : (this.lastAt - this.firstAt) / 1000;
    // The first token is the prompt's time, and no rate of tokens.
    const rate = tokens > 1 && seconds > 0 ? (tokens - 1) / seconds : null;
    return { promptTokens: this.usage?.prompt_tokens ?? null, tokens, ttft, rate };
  }

  #takeCall({ index, id, function: called }) {
    const call = (this.toolCalls[index] ??= { id: "", name: "", arguments: "" });
    call.id = id ?? call.id;
    call.name = called?.name ?? call.name;
    call.arguments += called?.arguments ?? "";
  }
}
