/**
 * Markdown inside a paragraph, as a tree. What is not closed, or not understood, stays text.
 *
 * @typedef {{type: "text"|"code", text: string}
 *     | {type: "strong"|"em"|"del", children: Inline[]}
 *     | {type: "link", href: string, children: Inline[]}
 *     | {type: "break"}} Inline
 */

const MAX_DEPTH = 8;
/** How far the end of a span is looked for: an answer must not cost the square of its length. */
const MAX_SPAN = 4000;

const SAFE_LINK = /^(?:https?:\/\/|mailto:)[^\s<>"']+$/i;
const BARE_LINK = /^https?:\/\/[^\s<>"'`\]}]*[^\s<>"'`\]}.,;:!?)*_~，。；：！？）、]/i;
const LINK =
  /^!?\[((?:[^\[\]\\]|\\.|\[[^\[\]]*\]){0,1000})\]\(\s*([^\s()]*(?:\([^\s()]*\)[^\s()]*)*)(?:\s+"[^"]*")?\s*\)/;
const ESCAPABLE = /[!-/:-@[-`{-~]/;
/** Characters at which something may begin. */
const SPECIAL = /[\\`*_~[!<\nh]/g;

const MARKS = [
  { mark: "**", type: "strong" },
  { mark: "__", type: "strong" },
  { mark: "~~", type: "del" },
  { mark: "*", type: "em" },
  { mark: "_", type: "em" },
];

/**
 * The tree of a text.
 *
 * @param {string} text
 * @param {number} [depth]
 * @returns {Inline[]}
 */
export function inlines(text, depth = 0) {
  const nodes = [];
  let plain = "";
  let at = 0;
  const passed = new Map();
  const push = (node) => {
    if (plain !== "") nodes.push({ type: "text", text: plain });
    plain = "";
    nodes.push(node);
  };
  while (at < text.length) {
    SPECIAL.lastIndex = at;
    const next = SPECIAL.exec(text)?.index ?? text.length;
    plain += text.slice(at, next);
    at = next;
    if (at === text.length) break;
    const found = depth < MAX_DEPTH ? spanAt(text, at, depth, passed) : null;
    if (found === null) {
      plain += text[at];
      at += 1;
    } else {
      if (typeof found.node === "string") plain += found.node;
      else push(found.node);
      at = found.end;
    }
  }
  if (plain !== "") nodes.push({ type: "text", text: plain });
  return nodes;
}

/** What begins at this place: a node or a text, and where it ends; or null. */
function spanAt(text, at, depth, passed) {
  switch (text[at]) {
    case "\\":
      return ESCAPABLE.test(text[at + 1] ?? "") ? { node: text[at + 1], end: at + 2 } : null;
    case "\n":
      return lineEnd(text, at);
    case "`":
      return codeSpan(text, at);
    case "[":
    case "!":
      return link(text, at, depth);
    case "<":
      return angleLink(text, at);
    case "h":
      return bareLink(text, at);
    default:
      return emphasis(text, at, depth, passed);
  }
}

/** Models break lines where they mean it, so each end of a line is one. */
function lineEnd(text, at) {
  return { node: { type: "break" }, end: at + 1 };
}

function codeSpan(text, at) {
  const ticks = /^`+/.exec(text.slice(at, at + 64))[0];
  let end = at + ticks.length;
  for (;;) {
    end = text.indexOf(ticks, end);
    if (end < 0 || end - at > MAX_SPAN) return { node: ticks, end: at + ticks.length };
    if (text[end + ticks.length] !== "`" && text[end - 1] !== "`") break;
    while (text[end] === "`") end += 1;
  }
  const inside = text.slice(at + ticks.length, end).replaceAll("\n", " ");
  const isPadded = /^ .*[^ ].* $|^ [^ ] $/.test(inside);
  const code = isPadded ? inside.slice(1, -1) : inside;
  return { node: { type: "code", text: code }, end: end + ticks.length };
}

/** An image is a link to it: the page loads nothing from elsewhere. */
function link(text, at, depth) {
  const found = LINK.exec(text.slice(at, at + MAX_SPAN));
  if (found === null || !SAFE_LINK.test(found[2])) return null;
  const children = inlines(found[1] || found[2], depth + 1).filter(({ type }) => type !== "link");
  return { node: { type: "link", href: found[2], children }, end: at + found[0].length };
}

function angleLink(text, at) {
  const end = text.indexOf(">", at);
  const href = end > 0 && end - at < MAX_SPAN ? text.slice(at + 1, end) : "";
  return SAFE_LINK.test(href) ? { node: plainLink(href), end: end + 1 } : null;
}

function bareLink(text, at) {
  if (/\w/.test(text[at - 1] ?? "")) return null;
  const found = BARE_LINK.exec(text.slice(at, at + MAX_SPAN));
  return found && SAFE_LINK.test(found[0])
    ? { node: plainLink(found[0]), end: at + found[0].length }
    : null;
}

function plainLink(href) {
  return { type: "link", href, children: [{ type: "text", text: href }] };
}

function emphasis(text, at, depth, passed) {
  for (const { mark, type } of MARKS) {
    if (!text.startsWith(mark, at)) continue;
    const end = endOf(text, at, mark, passed);
    if (end > 0) {
      const children = inlines(text.slice(at + mark.length, end), depth + 1);
      return { node: { type, children }, end: end + mark.length };
    }
  }
  // Marks that open nothing are passed at once: a row of them is not tried one by one.
  const length = rowAt(text, at);
  return { node: text.slice(at, at + length), end: at + length };
}

/** Where the mark that closes a span stands, or -1. `passed` remembers where none stands. */
function endOf(text, at, mark, passed) {
  const inside = at + mark.length;
  const isWordy = mark[0] === "_";
  if (/\s/.test(text[inside] ?? " ") || (isWordy && /\w/.test(text[at - 1] ?? ""))) return -1;
  const limit = Math.min(text.length, at + MAX_SPAN);
  for (let end = Math.max(inside + 1, passed.get(mark) ?? 0); end < limit; end += 1) {
    if (text[end] === "\\") {
      end += 1;
    } else if (text[end] === "`") {
      end = codeSpan(text, end).end - 1;
    } else if (text[end] === mark[0]) {
      const row = rowAt(text, end);
      const closes = mark.length === 2 ? row >= 2 : row !== 2;
      const last = end + row - mark.length;
      const isAfterWord = !/\s/.test(text[end - 1]);
      const isBeforeWord = isWordy && /\w/.test(text[end + row] ?? "");
      if (closes && isAfterWord && !isBeforeWord) return last;
      end += row - 1;
    }
  }
  passed.set(mark, limit);
  return -1;
}

/** How many of the same mark stand in a row. */
function rowAt(text, at) {
  let end = at + 1;
  while (text[end] === text[at]) end += 1;
  return end - at;
}
