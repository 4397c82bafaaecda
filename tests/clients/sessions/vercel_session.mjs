// A session with Vercel's `ai` and its provider for servers like OpenAI's.
import { readFileSync } from "node:fs";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, Output, generateObject, generateText, stepCountIs, streamObject, streamText, tool } from "ai";
import { MODEL, TASK, Trip, URL_OF_API, Weather, thrown } from "./task.mjs";

const provider = createOpenAICompatible({
  name: "llmserve",
  baseURL: URL_OF_API,
  apiKey: "none",
  includeUsage: true,
  supportsStructuredOutputs: true,
});
const model = provider(MODEL);
const settings = {
  model,
  temperature: 0,
  maxOutputTokens: TASK.max_tokens,
  maxRetries: 0,
  // Sent as it is.
  providerOptions: { llmserve: { parallel_tool_calls: false } },
};
const get_weather = tool({
  description: TASK.tool.function.description,
  inputSchema: Weather,
  execute: async () => TASK.result,
});
const trip = {
  ...settings,
  prompt: TASK.question,
  tools: { get_weather },
  stopWhen: stepCountIs(2),
  prepareStep: ({ stepNumber }) => ({ toolChoice: stepNumber === 0 ? "required" : "none" }),
};

const usageOf = (usage) => ({
  prompt_tokens: usage.inputTokens,
  completion_tokens: usage.outputTokens,
  total_tokens: usage.totalTokens,
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

async function streamedTrip() {
  const stream = streamText(trip);
  let deltas = "";
  for await (const delta of stream.textStream) deltas += delta;
  return { ...(await told(stream)), deltas };
}

async function streamedObject() {
  const stream = streamObject({ ...settings, prompt: TASK.wish, schema: Trip });
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
  const stream = streamText({ ...settings, temperature: -1, prompt: TASK.question, onError: ({ error }) => { seen = error; } });
  for await (const _ of stream.textStream);
  return refusal(seen);
}

console.log(
  JSON.stringify({
    version: JSON.parse(readFileSync(new URL("../node_modules/ai/package.json", import.meta.url))).version,
    whole: await told(await generateText(trip)),
    streamed: await streamedTrip(),
    structured: (await generateObject({ ...settings, prompt: TASK.wish, schema: Trip })).object,
    structured_text: (await generateText({ ...settings, prompt: TASK.wish, output: Output.object({ schema: Trip }) })).output,
    streamed_structure: await streamedObject(),
    error: refusal(await thrown(APICallError, () => generateText({ ...settings, temperature: -1, prompt: TASK.question }))),
    streamed_error: await streamedRefusal(),
  }),
);
