/** The body of POST /v1/chat/completions, from a conversation and its options. Knows no page. */

import { wireMessages } from "./conversation.js";

/** The numbers that the settings panel has, with their ranges. */
export const NUMBERS = [
  { name: "temperature", min: 0, max: 2, step: 0.05 },
  { name: "top_p", min: 0, max: 1, step: 0.01 },
  { name: "top_k", min: 0, max: 1000, step: 1 },
  { name: "min_p", min: 0, max: 1, step: 0.01 },
  { name: "repetition_penalty", min: 0.01, max: 10, step: 0.01 },
  { name: "presence_penalty", min: -2, max: 2, step: 0.1 },
  { name: "frequency_penalty", min: -2, max: 2, step: 0.1 },
  { name: "max_tokens", min: 1, max: 1_000_000, step: 1 },
  { name: "seed", min: 0, max: Number.MAX_SAFE_INTEGER, step: 1 },
];

/** An option that cannot be sent as it stands. */
export class OptionProblem extends Error {
  /**
   * @param {string} option its name.
   * @param {string} reason `json`, `array`, `object` or `number`.
   * @param {string} [detail] the parser's own words.
   */
  constructor(option, reason, detail = "") {
    super(`${option}: ${reason} ${detail}`.trim());
    this.option = option;
    this.reason = reason;
    this.detail = detail;
  }
}

/**
 * What is sent.
 *
 * @param {import("./conversation.js").Conversation} conversation
 * @param {string} model
 * @returns {object}
 * @throws {OptionProblem} an option cannot be sent.
 */
export function requestBody(conversation, model) {
  const { options } = conversation;
  const body = { model, messages: wireMessages(conversation) };
  for (const { name, min, max } of NUMBERS) {
    const value = numberOf(options[name], name, min, max);
    if (value !== null) body[name] = value;
  }
  const stops = (options.stop ?? "").split("\n").filter((line) => line !== "");
  if (stops.length > 0) body.stop = stops;
  if (options.reasoning_effort) body.reasoning_effort = options.reasoning_effort;
  const format = responseFormat(options);
  if (format !== null) body.response_format = format;
  const tools = offeredTools(options);
  if (tools.length > 0) {
    body.tools = tools;
    if (options.tool_choice) body.tool_choice = options.tool_choice;
  }
  return { ...body, stream: true, stream_options: { include_usage: true } };
}

/**
 * The `response_format` that the options ask for, or null.
 *
 * @param {Object<string, string>} options
 * @returns {object|null}
 */
export function responseFormat(options) {
  if (options.format === "json") return { type: "json_object" };
  if (options.format !== "schema") return null;
  const schema = parsed(options.schema ?? "", "schema");
  if (!isObject(schema)) throw new OptionProblem("schema", "object");
  return { type: "json_schema", json_schema: { name: "answer", schema, strict: true } };
}

/**
 * The tools that the options offer.
 *
 * @param {Object<string, string>} options
 * @returns {object[]}
 */
export function offeredTools(options) {
  if (!options.tools?.trim()) return [];
  const tools = parsed(options.tools, "tools");
  if (!Array.isArray(tools) || !tools.every(isObject)) throw new OptionProblem("tools", "array");
  return tools;
}

function parsed(text, option) {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new OptionProblem(option, "json", error.message);
  }
}

function numberOf(text, option, min, max) {
  if (text === undefined || text.trim() === "") return null;
  const value = Number(text);
  if (!Number.isFinite(value) || value < min || value > max) {
    throw new OptionProblem(option, "number", `${min} – ${max}`);
  }
  return value;
}

function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
