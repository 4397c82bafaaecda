// A session with Vercel's `ai` and its provider for OpenAI, whose default model speaks responses.
import { readFileSync } from "node:fs";
import { createOpenAI } from "@ai-sdk/openai";
import { APICallError, generateObject, generateText, stepCountIs, streamObject, streamText, tool } from "ai";
import { MODEL, TASK, Trip, URL_OF_API, Weather, thrown } from "./task.mjs";

const model = createOpenAI({ baseURL: URL_OF_API, apiKey: "none" })(MODEL);
const get_weather = tool({
  description: TASK.tool.function.description,
  inputSchema: Weather,
  execute: async () => TASK.result,
});

const usageOf = (usage) => ({
  prompt_tokens: usage.inputTokens,
  completion_tokens: usage.outputTokens,
  total_tokens: usage.totalTokens,
});

/** With `store` absent, the provider refers to stored items; without it, it sends them whole. */
function settings(openai) {
  return {
    model,
    temperature: 0,
    maxOutputTokens: TASK.max_tokens,
    maxRetries: 0,
    providerOptions: { openai: { parallelToolCalls: false, ...openai } },
  };
}

const trip = (openai) => ({
  ...settings(openai),
  prompt: TASK.question,
  tools: { get_weather },
  stopWhen: stepCountIs(2),
  prepareStep: ({ stepNumber }) => ({ toolChoice: stepNumber === 0 ? "required" : "none" }),
});

/** The call of the first step, and the answer of the second. */
async function told({ steps, text }) {
  const [first, second, ...others] = await steps;
  if (others.length > 0) throw new Error("more than two steps");
  const [call, ...more] = first.toolCalls;
  if (more.length > 0) throw new Error("more than one call");
  return {
    call: {
      id: call.toolCallId,
      name: call.toolName,
      arguments: call.input,
      content: first.text || null,
      finish_reason: first.finishReason === "tool-calls" ? "tool_calls" : first.finishReason,
      usage: usageOf(first.usage),
    },
    answer: { text: await text, finish_reason: second.finishReason, usage: usageOf(second.usage) },
  };
}

/** The second question comes after the first one's answer, to which the provider refers. */
async function conversation(openai) {
  const asked = { role: "user", content: TASK.question };
  const first = await generateText({ ...settings(openai), messages: [asked] });
  const messages = [asked, ...first.response.messages, asked];
  const second = await generateText({ ...settings(openai), messages });
  return { items: second.request.body.input.map((item) => item.type ?? item.role), text: second.text };
}

async function streamedTrip() {
  const stream = streamText(trip());
  let deltas = "";
  for await (const delta of stream.textStream) deltas += delta;
  return { ...(await told(stream)), deltas };
}

async function streamedObject() {
  const stream = streamObject({ ...settings(), prompt: TASK.wish, schema: Trip });
  for await (const _ of stream.partialObjectStream);
  return stream.object;
}

const refusal = (error) => ({
  exception: error.name,
  status: error.statusCode,
  is_retryable: error.isRetryable,
  param: error.data.error.param,
  code: error.data.error.code,
});

async function streamedRefusal() {
  let seen;
  const stream = streamText({ ...settings(), temperature: -1, prompt: TASK.question, onError: ({ error }) => { seen = error; } });
  for await (const _ of stream.textStream);
  return refusal(seen);
}

console.log(
  JSON.stringify({
    version: JSON.parse(readFileSync(new URL("../node_modules/@ai-sdk/openai/package.json", import.meta.url))).version,
    whole: await told(await generateText(trip())),
    whole_items: await told(await generateText(trip({ store: false }))),
    streamed: await streamedTrip(),
    conversation: await conversation(),
    unstored_conversation: await conversation({ store: false }),
    structured: (await generateObject({ ...settings(), prompt: TASK.wish, schema: Trip })).object,
    streamed_structure: await streamedObject(),
    error: refusal(await thrown(APICallError, () => generateText({ ...settings(), temperature: -1, prompt: TASK.question }))),
    streamed_error: await streamedRefusal(),
  }),
);
