import assert from "node:assert/strict";
import test from "node:test";

import { MODULES } from "./modules.mjs";

const { blocksOf } = await import(new URL("text/markdown.js", MODULES));
const { inlines } = await import(new URL("text/inline.js", MODULES));
const { highlighted } = await import(new URL("text/highlight.js", MODULES));

/** A tree of inlines as a short text. */
function short(text) {
  return inlines(text).map(shortNode).join("");
}

function shortNode(node) {
  if (node.type === "text") return node.text;
  if (node.type === "break") return "⏎";
  if (node.type === "code") return `code(${node.text})`;
  const inside = node.children.map(shortNode).join("");
  return node.type === "link" ? `link(${node.href}|${inside})` : `${node.type}(${inside})`;
}

const BLOCKS = `# Title

Words of
a paragraph
- one
- two

  more
  1. inner
- three

> quoted
> - item

| a | b |
|:--|--:|
| 1 | x\\|y |

\`\`\`js
let a = 1;

# no heading
\`\`\`
***
end`;

test("blocks are told apart", () => {
  const blocks = blocksOf(BLOCKS);
  assert.deepEqual(
    blocks.map(({ type }) => type),
    ["heading", "paragraph", "list", "quote", "table", "code", "rule", "paragraph"],
  );
  const [heading, paragraph, list, quote, table, code] = blocks;
  assert.deepEqual([heading.level, heading.text], [1, "Title"]);
  assert.equal(paragraph.text, "Words of\na paragraph");
  assert.equal(list.items.length, 3);
  assert.deepEqual(
    list.items[1].map(({ type }) => type),
    ["paragraph", "paragraph", "list"],
  );
  assert.deepEqual(
    quote.blocks.map(({ type }) => type),
    ["paragraph", "list"],
  );
  assert.deepEqual(
    [table.head, table.align, table.rows],
    [["a", "b"], ["left", "right"], [["1", "x|y"]]],
  );
  assert.deepEqual(
    [code.language, code.text, code.isOpen],
    ["js", "let a = 1;\n\n# no heading", false],
  );
});

test("each block begins where it says", () => {
  for (const { start, type } of blocksOf(BLOCKS)) {
    assert.equal(blocksOf(BLOCKS.slice(start))[0].type, type);
    assert.ok(start === 0 || BLOCKS[start - 1] === "\n");
  }
});

test("a text that grows changes its last block only", () => {
  let before = [];
  for (let end = 1; end <= BLOCKS.length; end += 1) {
    const now = blocksOf(BLOCKS.slice(0, end));
    const settled = before.slice(0, -1);
    assert.deepEqual(now.slice(0, settled.length), settled, `after ${end} letters`);
    before = now;
  }
});

test("code that is not closed yet is open", () => {
  const [block] = blocksOf("~~~python\nx = 1\n```");
  assert.deepEqual([block.type, block.isOpen, block.text], ["code", true, "x = 1\n```"]);
});

for (const [text, expected] of [
  ["a **b *c* d** e", "a strong(b em(c) d) e"],
  ["*a **b** c*", "em(a strong(b) c)"],
  ["***both***", "strong(em(both))"],
  ["snake_case_name and _em_", "snake_case_name and em(em)"],
  ["2 * 3 * 4 and **open", "2 * 3 * 4 and **open"],
  ["`a*b` ``c`d``", "code(a*b) code(c`d)"],
  ["`open", "`open"],
  ["~~gone~~ \\*kept\\*", "del(gone) *kept*"],
  ["one\ntwo", "one⏎two"],
  [
    "[x](https://a.b/c_(d)) https://e.f/g.",
    "link(https://a.b/c_(d)|x) link(https://e.f/g|https://e.f/g).",
  ],
  ['![p](https://a.b/i.png "t")', "link(https://a.b/i.png|p)"],
  ["<https://a.b>", "link(https://a.b|https://a.b)"],
  ["**中文**和*字*", "strong(中文)和em(字)"],
]) {
  test(`inline: ${JSON.stringify(text)}`, () => assert.equal(short(text), expected));
}

for (const href of [
  "javascript:alert(1)",
  "JaVaScRiPt:alert(1)",
  "data:text/html,x",
  "vbscript:x",
  "//elsewhere.example",
  "file:///etc/passwd",
  "java\tscript:alert(1)",
  " javascript:alert(1)",
]) {
  test(`no link to ${JSON.stringify(href)}`, () => {
    for (const text of [`[x](${href})`, `<${href}>`, `![x](${href})`]) {
      assert.ok(!JSON.stringify(inlines(text)).includes('"link"'), text);
    }
  });
}

test("HTML stays text", () => {
  const text = "<b onclick=alert(1)>x</b>";
  assert.deepEqual(inlines(text), [{ type: "text", text }]);
});

for (const piece of [
  "*a ",
  "**",
  "`a",
  "[",
  "_[`",
  "![a](",
  "- a\n\n",
  "> ",
  "* ",
  "| a ",
  "<h",
  "\\",
  '"',
]) {
  test(`a long row of ${JSON.stringify(piece)} is read whole`, () => {
    const text = piece.repeat(20_000);
    assert.ok(blocksOf(text).length > 0);
    assert.ok(short(text).length > 0);
  });
}

test("a nest of quotes and lists has an end", () => {
  let depth = 0;
  let [block] = blocksOf(`${"> ".repeat(500)}x`);
  while (block.blocks) {
    depth += 1;
    [block] = block.blocks;
  }
  assert.ok(depth < 20);
});

test("highlighting loses no letter", () => {
  const code = 'def f(x): # "no text"\n    return "a\\"b" + str(0x1F) // 2\n/* c */ SELECT -- d';
  for (const language of ["python", "js", "sql", "html", "css", "", "unknown"]) {
    assert.equal(
      highlighted(code, language)
        .map(({ text }) => text)
        .join(""),
      code,
    );
  }
  const kinds = Object.fromEntries(
    highlighted(code, "python").map(({ kind, text }) => [text, kind]),
  );
  assert.equal(kinds.def, "word");
  assert.equal(kinds.f, "call");
  assert.equal(kinds['# "no text"'], "comment");
  assert.equal(kinds["0x1F"], "number");
});
