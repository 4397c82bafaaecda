import assert from "node:assert/strict";
import test from "node:test";

import { MODULES } from "./modules.mjs";

const { Answer } = await import(new URL("chat/answer.js", MODULES));
const conversations = await import(new URL("chat/conversation.js", MODULES));
const { KINDS, program } = await import(new URL("chat/copy_as.js", MODULES));
const { generating } = await import(new URL("chat/model_picker.js", MODULES));
const { OptionProblem, requestBody } = await import(new URL("chat/request.js", MODULES));
const { EventParser } = await import(new URL("lib/sse.js", MODULES));

test("events are found however they were cut", () => {
  const text =
    ': queued position=2\n\nid: 1\ndata: {"a":1}\n\nevent: done\r\ndata: x\r\ndata:y\r\n\r\ndata\n\n: end\n';
  const whole = new EventParser().push(text);
  assert.deepEqual(whole, [
    { comment: "queued position=2" },
    { name: "message", data: '{"a":1}' },
    { name: "done", data: "x\ny" },
    { name: "message", data: "" },
    { comment: "end" },
  ]);
  for (let size = 1; size < 9; size += 1) {
    const parser = new EventParser();
    const found = [];
    for (let at = 0; at < text.length; at += size)
      found.push(...parser.push(text.slice(at, at + size)));
    assert.deepEqual(found, whole, `in pieces of ${size}`);
  }
});

test("only models that generate are offered", () => {
  const models = [
    { id: "a", capabilities: ["completions", "chat"] },
    { id: "b", capabilities: ["embeddings"] },
    { id: "c", status: "unloaded" },
    { id: "d", capabilities: ["rerank", "score"] },
  ];
  assert.deepEqual(
    generating(models).map(({ id }) => id),
    ["a", "c"],
  );
});

test("an answer is put together and timed", () => {
  let now = 1000;
  const answer = new Answer(() => now);
  const take = (at, delta, more = {}) => {
    now = at;
    answer.take({ model: "m", choices: [{ delta, finish_reason: null, ...more }] });
  };
  take(1100, { role: "assistant", content: "" });
  assert.equal(answer.stats().ttft, null);
  take(1500, { reasoning_content: "hm", reasoning: "hm" });
  take(2000, { content: "a" });
  take(2500, { tool_calls: [{ index: 0, id: "c1", function: { name: "f", arguments: "{" } }] });
  take(2500, { tool_calls: [{ index: 0, function: { arguments: "}" } }] });
  take(2600, {}, { finish_reason: "tool_calls" });
  answer.take({ choices: [], usage: { prompt_tokens: 7, completion_tokens: 5 } });
  assert.deepEqual(
    [answer.content, answer.reasoning, answer.finishReason, answer.model],
    ["a", "hm", "tool_calls", "m"],
  );
  assert.deepEqual(answer.toolCalls, [{ id: "c1", name: "f", arguments: "{}" }]);
  assert.deepEqual(answer.stats(), { promptTokens: 7, tokens: 5, ttft: 0.5, rate: 4 });
});

const TALK = {
  id: "x",
  title: "T",
  updatedAt: 5,
  options: { system: " Be kind. ", temperature: "0.5", stop: "a\nb", top_k: "" },
  messages: [
    { role: "user", content: "hi" },
    {
      role: "assistant",
      content: "",
      reasoning: "hm",
      toolCalls: [
        { id: "c1", name: "f", arguments: "{}" },
        { id: "c2", name: "g", arguments: "" },
      ],
    },
    { role: "tool", toolCallId: "c1", content: "r" },
  ],
};

test("a conversation is told as the API takes it", () => {
  const body = requestBody(TALK, "m");
  assert.deepEqual(body.messages, [
    { role: "system", content: "Be kind." },
    { role: "user", content: "hi" },
    {
      role: "assistant",
      content: null,
      tool_calls: [
        { id: "c1", type: "function", function: { name: "f", arguments: "{}" } },
        { id: "c2", type: "function", function: { name: "g", arguments: "" } },
      ],
    },
    { role: "tool", tool_call_id: "c1", content: "r" },
  ]);
  assert.deepEqual([body.temperature, body.stop, body.stream], [0.5, ["a", "b"], true]);
  assert.ok(!("top_k" in body) && !("tools" in body) && !("response_format" in body));
});

test("calls without a result are open", () => {
  assert.deepEqual(
    conversations.openCalls(TALK).map(({ id }) => id),
    ["c2"],
  );
  assert.deepEqual(conversations.openCalls({ messages: [] }), []);
});

for (const [options, option, reason] of [
  [{ format: "schema", schema: "" }, "schema", "json"],
  [{ format: "schema", schema: "[]" }, "schema", "object"],
  [{ tools: "{}" }, "tools", "array"],
  [{ tools: "[1]" }, "tools", "array"],
  [{ temperature: "3" }, "temperature", "number"],
  [{ top_p: "x" }, "top_p", "number"],
]) {
  test(`what cannot be sent is named: ${JSON.stringify(options)}`, () => {
    assert.throws(
      () => requestBody({ ...TALK, options }, "m"),
      (error) =>
        error instanceof OptionProblem && error.option === option && error.reason === reason,
    );
  });
}

test("a format and tools are sent as they are written", () => {
  const options = {
    format: "schema",
    schema: '{"type": "object"}',
    tools: '[{"a": 1}]',
    tool_choice: "required",
  };
  const body = requestBody({ ...TALK, options }, "m");
  assert.deepEqual(body.response_format.json_schema.schema, { type: "object" });
  assert.deepEqual([body.tools, body.tool_choice], [[{ a: 1 }], "required"]);
});

test("what was exported is imported, with ids of its own", () => {
  const [again] = conversations.imported(conversations.exported([TALK]));
  assert.notEqual(again.id, TALK.id);
  assert.deepEqual({ ...again, id: "x" }, TALK);
});

for (const text of [
  "",
  "{}",
  '{"format":"llmserve-conversations"}',
  '{"format":"llmserve-conversations","conversations":[{"title":"x","messages":[{"role":"system","content":"x"}]}]}',
  '{"format":"llmserve-conversations","conversations":[{"title":"x","messages":[{"role":"user","content":1}]}]}',
]) {
  test(`no import from ${text}`, () => assert.throws(() => conversations.imported(text)));
}

test("what an imported file adds is left out", () => {
  const evil = structuredClone(TALK);
  Object.assign(evil.messages[0], {
    extra: "x",
    stats: { tokens: "<b>", rate: 2 },
    toolCalls: "no",
  });
  evil.options.count = 1;
  const [again] = conversations.imported(conversations.exported([evil]));
  assert.deepEqual(again.messages[0], {
    role: "user",
    content: "hi",
    stats: { promptTokens: null, tokens: null, ttft: null, rate: 2 },
  });
  assert.ok(!("count" in again.options));
});

test("a title is the beginning of what was said", () => {
  assert.equal(conversations.titleOf("  a\n b "), "a b");
  assert.equal([...conversations.titleOf("😀".repeat(100))].length, 60);
});

test("no program has a key in it", () => {
  for (const kind of KINDS) {
    const text = program(kind, requestBody(TALK, "m"), "http://h/", true);
    assert.ok(kind === "JSON" || text.includes("YOUR_KEY"), kind);
  }
});

test("quotes do not end a shell's text", () => {
  const body = requestBody(
    { ...TALK, options: {}, messages: [{ role: "user", content: "it's" }] },
    "m",
  );
  assert.ok(program("curl", body, "http://h/", false).includes("it'\\''s"));
});
