/** The current request as a program. Keys are never in it: a placeholder stands for them. */

const PLACEHOLDER = "YOUR_KEY";

/** The languages, by the names that the page shows. */
export const KINDS = ["JSON", "curl", "Python", "JavaScript"];

/**
 * A program that sends this request.
 *
 * @param {string} kind one of `KINDS`.
 * @param {object} body
 * @param {string} server its address, with a slash at the end.
 * @param {boolean} hasKey whether the server wants a key.
 * @returns {string}
 */
export function program(kind, body, server, hasKey) {
  if (kind === "curl") return curl(body, server, hasKey);
  if (kind === "Python") return python(body, server, hasKey);
  if (kind === "JavaScript") return javascript(body, server, hasKey);
  return JSON.stringify(body, null, 2);
}

function curl(body, server, hasKey) {
  // In single quotes a shell takes everything as it is, but for the quote itself.
  const json = JSON.stringify(body, null, 2).replaceAll("'", "'\\''");
  const key = hasKey ? ` \\\n  -H 'Authorization: Bearer ${PLACEHOLDER}'` : "";
  return (
    `curl -N '${server}v1/chat/completions' \\\n` +
    `  -H 'Content-Type: application/json'${key} \\\n  -d '${json}'`
  );
}

function python(body, server, hasKey) {
  const { messages, stream: _stream, stream_options: options, ...others } = body;
  const [known, extra] = parted(others);
  const fields = [["messages", messages], ...Object.entries(known), ["stream", true]];
  fields.push(["stream_options", options]);
  if (Object.keys(extra).length > 0) fields.push(["extra_body", extra]);
  const lines = fields.map(([name, value]) => `    ${name}=${literal(value, 1)},`);
  return `from openai import OpenAI

client = OpenAI(base_url=${JSON.stringify(`${server}v1`)}, api_key=${JSON.stringify(hasKey ? PLACEHOLDER : "none")})
stream = client.chat.completions.create(
${lines.join("\n")}
)
for chunk in stream:
    if chunk.choices:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
`;
}

function javascript(body, server, hasKey) {
  const key = hasKey ? `\n    Authorization: "Bearer ${PLACEHOLDER}",` : "";
  const json = JSON.stringify(body, null, 2).replaceAll("\n", "\n  ");
  return `const response = await fetch("${server}v1/chat/completions", {
  method: "POST",
  headers: {
    "Content-Type": "application/json",${key}
  },
  body: JSON.stringify(${json}),
});
let rest = "";
for await (const piece of response.body.pipeThrough(new TextDecoderStream())) {
  const lines = (rest + piece).split("\\n");
  rest = lines.pop();
  for (const line of lines) {
    if (!line.startsWith("data: ") || line === "data: [DONE]") continue;
    console.log(JSON.parse(line.slice(6)).choices[0]?.delta.content ?? "");
  }
}
`;
}

/** OpenAI's client takes fields that it does not know in `extra_body`. */
function parted(fields) {
  const unknown = ["top_k", "min_p", "repetition_penalty"];
  const entries = Object.entries(fields);
  return [
    Object.fromEntries(entries.filter(([name]) => !unknown.includes(name))),
    Object.fromEntries(entries.filter(([name]) => unknown.includes(name))),
  ];
}

/** A value as Python writes it. */
function literal(value, depth) {
  if (value === null) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (typeof value !== "object") return JSON.stringify(value);
  const [open, close] = Array.isArray(value) ? ["[", "]"] : ["{", "}"];
  const items = Array.isArray(value)
    ? value.map((item) => literal(item, depth + 1))
    : Object.entries(value).map(
        ([name, item]) => `${JSON.stringify(name)}: ${literal(item, depth + 1)}`,
      );
  if (items.length === 0) return open + close;
  const indent = "    ".repeat(depth + 1);
  return `${open}\n${items.map((item) => indent + item).join(",\n")},\n${"    ".repeat(depth)}${close}`;
}
