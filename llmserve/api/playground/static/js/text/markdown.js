/**
 * Markdown as models write it, as a tree of blocks. A block depends on no other, so that while an
 * answer grows only its last block has to be read again.
 *
 * @typedef {object} Block
 * @property {"paragraph"|"heading"|"code"|"list"|"quote"|"rule"|"table"} type
 * @property {number} start where it begins in the text.
 * @property {string} [text] of a paragraph, a heading or code.
 * @property {number} [level] of a heading.
 * @property {string} [language] of code.
 * @property {boolean} [isOpen] whether code is still without its end.
 * @property {boolean} [isOrdered] of a list.
 * @property {number} [first] number of an ordered list.
 * @property {Block[][]} [items] of a list.
 * @property {Block[]} [blocks] of a quote.
 * @property {string[]} [head] of a table.
 * @property {string[]} [align] of a table's columns: `left`, `center`, `right` or nothing.
 * @property {string[][]} [rows] of a table.
 */

const MAX_DEPTH = 6;
const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([^`\s]*)[^`]*$/;
const HEADING = /^ {0,3}(#{1,6})\s+(.*?)\s*#*\s*$/;
const RULE = /^ {0,3}(?:(?:\*\s*){3,}|(?:-\s*){3,}|(?:_\s*){3,})$/;
const ITEM = /^( {0,3})([-*+]|(\d{1,9})[.)])(\s+|$)/;
const QUOTE = /^ {0,3}> ?/;
const DELIMITERS = /^ {0,3}\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)*\|?\s*$/;

/**
 * The blocks of a text.
 *
 * @param {string} text
 * @returns {Block[]}
 */
export function blocksOf(text) {
  return new Reader(text, 0).read();
}

class Reader {
  constructor(text, depth) {
    this.lines = text.split("\n");
    this.depth = depth;
    this.line = 0;
    this.offsets = [];
    let offset = 0;
    for (const line of this.lines) {
      this.offsets.push(offset);
      offset += line.length + 1;
    }
    this.blocks = [];
  }

  read() {
    while (this.line < this.lines.length) {
      if (this.#current().trim() === "") this.line += 1;
      else this.#block();
    }
    return this.blocks;
  }

  #current() {
    return this.lines[this.line];
  }

  #push(type, from, fields) {
    this.blocks.push({ type, start: this.offsets[from], ...fields });
  }

  #block() {
    const line = this.#current();
    const from = this.line;
    const fence = FENCE.exec(line);
    const heading = HEADING.exec(line);
    if (fence) {
      this.#code(fence, from);
    } else if (heading) {
      this.line += 1;
      this.#push("heading", from, { level: heading[1].length, text: heading[2] });
    } else if (RULE.test(line)) {
      this.line += 1;
      this.#push("rule", from, {});
    } else if (QUOTE.test(line) && this.depth < MAX_DEPTH) {
      this.#quote(from);
    } else if (ITEM.test(line) && this.depth < MAX_DEPTH) {
      this.#list(from);
    } else if (this.#isTable(from)) {
      this.#table(from);
    } else {
      this.#paragraph(from);
    }
  }

  #code([, mark, language], from) {
    const indent = /^ */.exec(this.#current())[0].length;
    const end = new RegExp(`^ {0,3}${mark[0]}{${mark.length},}\\s*$`);
    const inside = [];
    let isOpen = true;
    for (this.line += 1; this.line < this.lines.length; this.line += 1) {
      if (end.test(this.#current())) {
        isOpen = false;
        this.line += 1;
        break;
      }
      inside.push(this.#current().replace(new RegExp(`^ {0,${indent}}`), ""));
    }
    this.#push("code", from, { language, text: inside.join("\n"), isOpen });
  }

  #quote(from) {
    const inside = [];
    while (this.line < this.lines.length && QUOTE.test(this.#current())) {
      inside.push(this.#current().replace(QUOTE, ""));
      this.line += 1;
    }
    const blocks = new Reader(inside.join("\n"), this.depth + 1).read();
    this.#push("quote", from, { blocks });
  }

  #list(from) {
    const first = ITEM.exec(this.#current());
    const isOrdered = first[3] !== undefined;
    const items = [];
    while (this.line < this.lines.length) {
      const item = ITEM.exec(this.#current());
      if (!item || (item[3] !== undefined) !== isOrdered || RULE.test(this.#current())) break;
      items.push(this.#item(item));
    }
    this.#push("list", from, { isOrdered, first: Number(first[3] ?? 1), items });
  }

  /** One item, with the lines that are indented below it, empty ones between them included. */
  #item(item) {
    const indent =
      item[4].length > 4 || item[4] === "" ? item[0].trimEnd().length + 1 : item[0].length;
    const inside = [this.#current().slice(item[0].length)];
    for (this.line += 1; this.line < this.lines.length; this.line += 1) {
      const line = this.#current();
      const isInside = /^ */.exec(line)[0].length >= Math.min(indent, item[1].length + 2);
      if (line.trim() === "") {
        if (!this.#goesOn(item)) break;
      } else if (!isInside && (this.#interrupts(line) || inside.at(-1).trim() === "")) {
        break;
      }
      inside.push(line.replace(new RegExp(`^ {0,${indent}}`), ""));
    }
    while (this.line < this.lines.length && this.#current().trim() === "") this.line += 1;
    return new Reader(inside.join("\n"), this.depth + 1).read();
  }

  /** Whether the item has another indented line after these empty ones. */
  #goesOn(item) {
    let next = this.line;
    while (next < this.lines.length && this.lines[next].trim() === "") next += 1;
    return next < this.lines.length && /^ */.exec(this.lines[next])[0].length >= item[1].length + 2;
  }

  #interrupts(line) {
    return [FENCE, HEADING, RULE, QUOTE, ITEM].some((pattern) => pattern.test(line));
  }

  #isTable(at) {
    const delimiters = this.lines[at + 1];
    return (
      delimiters !== undefined &&
      this.lines[at].includes("|") &&
      DELIMITERS.test(delimiters) &&
      cells(this.lines[at]).length === cells(delimiters).length
    );
  }

  #table(from) {
    const head = cells(this.#current());
    const align = cells(this.lines[this.line + 1]).map(alignment);
    const rows = [];
    for (this.line += 2; this.line < this.lines.length; this.line += 1) {
      const line = this.#current();
      if (line.trim() === "" || !line.includes("|")) break;
      const row = cells(line).slice(0, head.length);
      while (row.length < head.length) row.push("");
      rows.push(row);
    }
    this.#push("table", from, { head, align, rows });
  }

  #paragraph(from) {
    const inside = [];
    do {
      inside.push(this.#current().trim());
      this.line += 1;
    } while (
      this.line < this.lines.length &&
      this.#current().trim() !== "" &&
      !this.#interrupts(this.#current()) &&
      !this.#isTable(this.line)
    );
    this.#push("paragraph", from, { text: inside.join("\n") });
  }
}

function cells(line) {
  const inside = line
    .trim()
    .replace(/^\|/, "")
    .replace(/(?<!\\)\|$/, "");
  return inside.split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll("\\|", "|"));
}

function alignment(delimiter) {
  if (delimiter.endsWith(":")) return delimiter.startsWith(":") ? "center" : "right";
  return delimiter.startsWith(":") ? "left" : "";
}
