// A session with OpenAI's client for JavaScript and the Responses API.
import { readFileSync } from "node:fs";
import OpenAI from "openai";
import { zodResponsesFunction, zodTextFormat } from "openai/helpers/zod";
import { MODEL, TASK, Trip, URL_OF_API, Weather, thrown } from "./task.mjs";

const client = new OpenAI({ baseURL: URL_OF_API, apiKey: "none", maxRetries: 0, timeout: 60_000 });
const { name } = TASK.tool.function;
const create = { model: MODEL, max_output_tokens: TASK.max_tokens, temperature: 0 };
const forced = {
  tools: [zodResponsesFunction({ name, parameters: Weather })],
  tool_choice: { type: "function", name },
  parallel_tool_calls: false,
};

const usageOf = ({ usage }) => ({
  prompt_tokens: usage.input_tokens,
  completion_tokens: usage.output_tokens,
  total_tokens: usage.total_tokens,
});

function callOf(response) {
  const [call, ...others] = response.output;
  if (others.length > 0) throw new Error("more than one item");
  return {
    id: call.call_id,
    name: call.name,
    arguments: JSON.parse(call.arguments),
    content: response.output_text || null,
    finish_reason: "tool_calls",
    usage: usageOf(response),
  };
}

const answerOf = (response) => ({
  text: response.output_text,
  finish_reason: response.status === "completed" ? "stop" : "length",
  usage: usageOf(response),
});

/** The last response of a stream, whose events are numbered. */
async function streamed(asked) {
  let number = 0;
  let last;
  for await (const event of await client.responses.create({ ...create, ...asked, stream: true })) {
    if (event.sequence_number !== number++) throw new Error(`${event.type} has another number`);
    last = event;
  }
  // The client adds `output_text` to whole responses alone.
  const texts = last.response.output.flatMap((item) => (item.type === "message" ? item.content : []));
  return { ...last.response, output_text: texts.map((part) => part.text).join("") };
}

const accumulated = (asked) => client.responses.stream({ ...create, ...asked }).finalResponse();

const called = await client.responses.create({ ...create, ...forced, input: TASK.question });
const result = { type: "function_call_output", call_id: called.output[0].call_id, output: TASK.result };
const answered = { tools: forced.tools, tool_choice: "none" };
const whole = {
  ...answered,
  input: [{ role: "user", content: TASK.question }, ...called.output, result],
  store: false,
};
const stored = { ...answered, input: [result], previous_response_id: called.id };
const wish = { input: TASK.wish, text: { format: zodTextFormat(Trip, "trip") } };
const refused = async (more) => {
  const error = await thrown(OpenAI.BadRequestError, () =>
    client.responses.create({ ...create, input: TASK.question, temperature: -1, ...more }),
  );
  return {
    exception: error.constructor.name,
    status: error.status,
    param: error.param,
    code: error.code,
    request_id: error.requestID,
  };
};

console.log(
  JSON.stringify({
    version: JSON.parse(readFileSync(new URL("../node_modules/openai/package.json", import.meta.url))).version,
    call: callOf(called),
    streamed_call: callOf(await streamed({ ...forced, input: TASK.question })),
    accumulated_call: callOf(await accumulated({ ...forced, input: TASK.question })),
    answer: answerOf(await client.responses.create({ ...create, ...whole })),
    streamed_answer: answerOf(await streamed(whole)),
    stored_answer: answerOf(await client.responses.create({ ...create, ...stored })),
    structured: (await client.responses.parse({ ...create, ...wish })).output_parsed,
    streamed_structure: (await accumulated(wish)).output_parsed,
    retrieved: (await client.responses.retrieve(called.id)).id === called.id,
    error: await refused({}),
    streamed_error: await refused({ stream: true }),
  }),
);
