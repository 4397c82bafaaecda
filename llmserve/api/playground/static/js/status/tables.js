/** Rows that are kept while their values change, so that nothing under the visitor's hand jumps. */

import { h } from "../lib/dom.js";

export class Table {
  /**
   * @param {HTMLElement} place where it is put.
   * @param {string} label the key of its name.
   * @param {string[]} columns the keys of their titles; an empty one has none.
   */
  constructor(place, label, columns) {
    this.rows = new Map();
    this.columns = columns;
    this.body = h("tbody");
    const heads = columns.map((key) => (key === "" ? h("td") : h("th", { scope: "col", t: key })));
    const table = h("table", { label }, h("thead", {}, h("tr", {}, ...heads)), this.body);
    place.append(h("div", { class: "table", tabindex: "0", role: "group", label }, table));
  }

  /**
   * Show these rows, in this order.
   *
   * @param {{id: string, cells: (string|Node)[]}[]} rows a node that stays the same is left alone.
   */
  show(rows) {
    const kept = new Set(rows.map(({ id }) => id));
    for (const [id, row] of this.rows) {
      if (!kept.has(id)) {
        row.remove();
        this.rows.delete(id);
      }
    }
    rows.forEach(({ id, cells }, number) => {
      const row =
        this.rows.get(id) ?? h("tr", { "data-id": id }, ...this.columns.map(() => h("td")));
      this.rows.set(id, row);
      cells.forEach((cell, column) => fill(row.children[column], cell));
      if (this.body.children[number] !== row)
        this.body.insertBefore(row, this.body.children[number] ?? null);
    });
  }
}

function fill(place, content) {
  if (typeof content === "string") {
    if (place.textContent !== content) place.textContent = content;
  } else if (place.firstChild !== content) {
    place.replaceChildren(content);
  }
}
