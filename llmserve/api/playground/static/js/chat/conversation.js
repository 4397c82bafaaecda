/**
 * A conversation as the browser keeps it, and as a model is told it. Knows no page.
 *
 * @typedef {object} Message
 * @property {"user"|"assistant"|"tool"} role
 * @property {string} content
 * @property {string} [reasoning]
 * @property {{id: string, name: string, arguments: string}[]} [toolCalls]
 * @property {string} [toolCallId] of the call whose result this is.
 * @property {object} [stats]
 * @property {string} [model]
 * @property {string|null} [finishReason]
 *
 * @typedef {object} Conversation
 * @property {string} id
 * @property {string} title
 * @property {number} updatedAt milliseconds since 1970.
 * @property {Object<string, string>} options what the settings panel has, as text.
 * @property {Message[]} messages
 */

const FORMAT = "llmserve-conversations";
const VERSION = 1;
const MAX_TITLE = 60;
const ROLES = ["user", "assistant", "tool"];

/**
 * An empty one, with the options of another.
 *
 * @param {Object<string, string>} [options]
 * @returns {Conversation}
 */
export function newConversation(options = {}) {
  return { id: newId(), title: "", updatedAt: Date.now(), options: { ...options }, messages: [] };
}

/**
 * A title from what was said first.
 *
 * @param {string} text
 * @returns {string}
 */
export function titleOf(text) {
  const line = text.trim().replace(/\s+/g, " ");
  const letters = [...line];
  return letters.length > MAX_TITLE ? `${letters.slice(0, MAX_TITLE - 1).join("")}…` : line;
}

/**
 * The messages as POST /v1/chat/completions takes them.
 *
 * @param {Conversation} conversation
 * @returns {object[]}
 */
export function wireMessages(conversation) {
  const system = conversation.options.system?.trim();
  const messages = conversation.messages.filter(saysSomething).map(wireMessage);
  return system ? [{ role: "system", content: system }, ...messages] : messages;
}

/**
 * The calls of the last answer that have no result yet.
 *
 * @param {Conversation} conversation
 * @returns {{id: string, name: string, arguments: string}[]}
 */
export function openCalls(conversation) {
  const { messages } = conversation;
  const at = messages.findLastIndex((message) => message.role !== "tool");
  const results = new Set(messages.slice(at + 1).map((message) => message.toolCallId));
  return (messages[at]?.toolCalls ?? []).filter((call) => !results.has(call.id));
}

/**
 * A file with these conversations.
 *
 * @param {Conversation[]} conversations
 * @returns {string}
 */
export function exported(conversations) {
  return JSON.stringify({ format: FORMAT, version: VERSION, conversations }, null, 2);
}

/**
 * The conversations of such a file. Each gets an id of its own, so that none replaces another.
 *
 * @param {string} text
 * @returns {Conversation[]}
 * @throws {Error} it is no such file.
 */
export function imported(text) {
  const file = JSON.parse(text);
  if (file?.format !== FORMAT || !Array.isArray(file.conversations)) throw new Error("format");
  return file.conversations.map(checked);
}

function checked(found) {
  const isSound =
    typeof found?.title === "string" &&
    Array.isArray(found.messages) &&
    found.messages.every((m) => ROLES.includes(m?.role) && typeof m.content === "string");
  if (!isSound) throw new Error("conversation");
  const texts = Object.entries(found.options ?? {}).filter(
    ([, value]) => typeof value === "string",
  );
  return {
    id: newId(),
    title: found.title,
    updatedAt: Number(found.updatedAt) || Date.now(),
    options: Object.fromEntries(texts),
    messages: found.messages.map(checkedMessage),
  };
}

function checkedMessage(message) {
  const calls = (Array.isArray(message.toolCalls) ? message.toolCalls : []).map((call) => ({
    id: String(call?.id ?? ""),
    name: String(call?.name ?? ""),
    arguments: String(call?.arguments ?? ""),
  }));
  const kept = { role: message.role, content: message.content };
  if (typeof message.reasoning === "string") kept.reasoning = message.reasoning;
  if (calls.length > 0) kept.toolCalls = calls;
  if (typeof message.toolCallId === "string") kept.toolCallId = message.toolCallId;
  if (typeof message.model === "string") kept.model = message.model;
  if (typeof message.finishReason === "string") kept.finishReason = message.finishReason;
  if (typeof message.stats === "object" && message.stats !== null) {
    kept.stats = Object.fromEntries(
      ["promptTokens", "tokens", "ttft", "rate"].map((name) => {
        const value = message.stats[name];
        return [name, typeof value === "number" ? value : null];
      }),
    );
  }
  return kept;
}

function saysSomething(message) {
  return message.role === "tool" || message.content !== "" || message.toolCalls?.length > 0;
}

function wireMessage({ role, content, toolCalls, toolCallId }) {
  if (role === "tool") return { role, tool_call_id: toolCallId, content };
  if (!toolCalls?.length) return { role, content };
  const calls = toolCalls.map((call) => ({
    id: call.id,
    type: "function",
    function: { name: call.name, arguments: call.arguments },
  }));
  return { role, content: content || null, tool_calls: calls };
}

/** Pages over plain HTTP have no `crypto.randomUUID`. */
function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
