/** Markdown's trees as elements. Every text of a model becomes a text node, never HTML. */

import { h } from "../lib/dom.js";
import { copyButton } from "../lib/copying.js";
import { highlighted } from "./highlight.js";
import { inlines } from "./inline.js";

/**
 * The element of a block.
 *
 * @param {import("./markdown.js").Block} block
 * @returns {HTMLElement}
 */
export function elementOf(block) {
  switch (block.type) {
    case "heading":
      // The page's own headings come first: those of an answer are below them.
      return h(`h${Math.min(6, block.level + 2)}`, {}, ...inline(block.text));
    case "code":
      return codeElement(block);
    case "quote":
      return h("blockquote", {}, ...block.blocks.map(elementOf));
    case "rule":
      return h("hr");
    case "list":
      return listElement(block);
    case "table":
      return tableElement(block);
    default:
      return h("p", {}, ...inline(block.text));
  }
}

/** Code in a frame, in colours once it is complete, with a button that copies it. */
function codeElement({ language, text, isOpen }) {
  const pieces = isOpen ? [{ kind: "", text }] : highlighted(text, language);
  const code = h("code", {}, ...pieces.map(pieceOf));
  return h(
    "figure",
    { class: "code" },
    h(
      "figcaption",
      {},
      h("span", { text: language || "text" }),
      copyButton(() => code.textContent),
    ),
    h("pre", { tabindex: "0" }, code),
  );
}

function pieceOf({ kind, text }) {
  return kind === "" ? text : h("span", { class: `code-${kind}`, text });
}

function listElement({ isOrdered, first, items }) {
  const elements = items.map((blocks) => h("li", {}, ...itemNodes(blocks)));
  return isOrdered
    ? h("ol", { start: first === 1 ? null : first }, ...elements)
    : h("ul", {}, ...elements);
}

/** An item that begins with a paragraph has its words directly inside. */
function itemNodes(blocks) {
  const [first, ...others] = blocks;
  if (first?.type !== "paragraph") return blocks.map(elementOf);
  return [...inline(first.text), ...others.map(elementOf)];
}

function tableElement({ head, align, rows }) {
  const cell = (tag) => (text, column) =>
    h(tag, { class: align[column] ? `align-${align[column]}` : null }, ...inline(text));
  return h(
    "div",
    { class: "table", tabindex: "0" },
    h(
      "table",
      {},
      h("thead", {}, h("tr", {}, ...head.map(cell("th")))),
      h("tbody", {}, ...rows.map((row) => h("tr", {}, ...row.map(cell("td"))))),
    ),
  );
}

function inline(text) {
  return inlines(text).map(inlineNode);
}

function inlineNode(node) {
  switch (node.type) {
    case "text":
      return document.createTextNode(node.text);
    case "break":
      return h("br");
    case "code":
      return h("code", { text: node.text });
    case "link": {
      const target = { href: node.href, target: "_blank", rel: "noopener noreferrer nofollow" };
      return h("a", target, ...node.children.map(inlineNode));
    }
    default:
      return h(node.type, {}, ...node.children.map(inlineNode));
  }
}
