// A session with OpenAI's client for JavaScript.
import { readFileSync } from "node:fs";
import OpenAI from "openai";
import { zodFunction, zodResponseFormat } from "openai/helpers/zod";
import { MODEL, TASK, Trip, URL_OF_API, Weather, thrown } from "./task.mjs";

const client = new OpenAI({ baseURL: URL_OF_API, apiKey: "none", maxRetries: 0, timeout: 60_000 });
const name = TASK.tool.function.name;
const create = { model: MODEL, max_tokens: TASK.max_tokens, temperature: 0 };
const asked = [{ role: "user", content: TASK.question }];
const wished = [{ role: "user", content: TASK.wish }];
const forced = {
  tools: [TASK.tool],
  tool_choice: { type: "function", function: { name } },
  parallel_tool_calls: false,
};
const withUsage = { stream: true, stream_options: { include_usage: true } };

function callOf(completion) {
  const [choice] = completion.choices;
  const [call, ...others] = choice.message.tool_calls;
  if (others.length > 0) throw new Error("more than one call");
  return {
    id: call.id,
    name: call.function.name,
    arguments: JSON.parse(call.function.arguments),
    content: choice.message.content,
    finish_reason: choice.finish_reason,
    usage: completion.usage,
  };
}

function answerOf(completion) {
  const [choice] = completion.choices;
  return {
    text: choice.message.content,
    finish_reason: choice.finish_reason,
    usage: completion.usage,
  };
}

const streamed = (more) => client.chat.completions.stream({ ...create, ...withUsage, ...more });

/** The client runs the tool itself, and stops after a call that was forced. */
async function ranTools() {
  let given;
  const runner = client.chat.completions.runTools({
    ...create,
    messages: asked,
    tools: [
      zodFunction({
        name,
        parameters: Weather,
        function: (weather) => {
          given = weather;
          return TASK.result;
        },
      }),
    ],
    tool_choice: forced.tool_choice,
  });
  await runner.done();
  return { given, roles: runner.messages.map((message) => message.role) };
}

const called = await client.chat.completions.create({ ...create, messages: asked, ...forced });
const said = called.choices[0].message;
const result = { role: "tool", tool_call_id: said.tool_calls[0].id, content: TASK.result };
const history = { messages: [...asked, said, result], tools: [TASK.tool], tool_choice: "none" };
const wish = { messages: wished, response_format: zodResponseFormat(Trip, "trip") };
const refused = async (more) => {
  const error = await thrown(OpenAI.BadRequestError, () =>
    client.chat.completions.create({ ...create, messages: asked, temperature: -1, ...more }),
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
    streamed_call: callOf(await streamed({ messages: asked, ...forced }).finalChatCompletion()),
    ran_tools: await ranTools(),
    answer: answerOf(await client.chat.completions.create({ ...create, ...history })),
    streamed_answer: answerOf(await streamed(history).finalChatCompletion()),
    structured: (await client.chat.completions.parse({ ...create, ...wish })).choices[0].message.parsed,
    streamed_structure: (await streamed(wish).finalChatCompletion()).choices[0].message.parsed,
    error: await refused({}),
    streamed_error: await refused({ stream: true }),
  }),
);
