// A session with Anthropic's client for JavaScript. Arguments: URL and MODEL.
import { readFileSync } from "node:fs";
import Anthropic from "@anthropic-ai/sdk";

const [baseURL, model] = process.argv.slice(2);
const client = new Anthropic({ baseURL, apiKey: "none", maxRetries: 0, timeout: 60_000 });
const create = { model, max_tokens: 100 };
const asked = [{ role: "user", content: "How do I warm a model?" }];
const wondered = [{ role: "user", content: "What is the weather in Paris?" }];
const tools = [
  {
    name: "get_weather",
    description: "The weather in a city.",
    input_schema: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
];
const tool_choice = { type: "tool", name: "get_weather", disable_parallel_tool_use: true };

async function streamed(more) {
  const events = [];
  const stream = client.messages.stream({ ...create, ...more });
  stream.on("streamEvent", (event) => events.push(event.type));
  return { message: await stream.finalMessage(), events };
}

/** A call as the client's own objects give it back, its result, and the answer. */
async function roundTrip() {
  const { message } = await streamed({ messages: wondered, tools, tool_choice });
  const [call] = message.content;
  const result = { type: "tool_result", tool_use_id: call.id, content: '{"degrees": 18}' };
  const history = [
    ...wondered,
    { role: "assistant", content: message.content },
    { role: "user", content: [result] },
  ];
  return { call, answer: await client.messages.create({ ...create, messages: history, tools }) };
}

async function thrown(ask) {
  try {
    await ask();
  } catch (error) {
    if (!(error instanceof Anthropic.APIError)) throw error;
    const { constructor, status, type, message } = error;
    return { exception: constructor.name, status, type, message, has_id: Boolean(error.requestID) };
  }
  throw new Error("it was not refused");
}

const installed = new URL("../node_modules/@anthropic-ai/sdk/package.json", import.meta.url);
const refusedTool = { messages: asked, tools: [{ type: "bash_20250124", name: "bash" }] };
console.log(
  JSON.stringify({
    version: JSON.parse(readFileSync(installed)).version,
    answer: await client.messages.create({ ...create, messages: asked }),
    streamed: await streamed({ messages: asked, max_tokens: 5 }),
    trip: await roundTrip(),
    count: await client.messages.countTokens({ model, messages: asked }),
    models: (await client.models.list()).data.map((served) => served.id),
    error: await thrown(() => client.messages.create({ ...create, ...refusedTool })),
    streamed_error: await thrown(() => streamed({ ...refusedTool })),
    unknown_model: await thrown(() => client.messages.create({ ...create, messages: asked, model: "nobody" })),
  }),
);
