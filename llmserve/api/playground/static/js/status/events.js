/** What happened lately: warnings and errors of the workers' logs, and workers that came and went. */

import { h } from "../lib/dom.js";
import { setText } from "../lib/i18n.js";
import { clock } from "./units.js";

const MOST = 60;

export class Events {
  /** @param {HTMLElement} place */
  constructor(place) {
    this.list = h("ol", { class: "events" });
    this.empty = h("p", { class: "note", t: "events.none" });
    this.own = [];
    this.problems = new Map();
    place.append(this.empty, this.list);
  }

  /**
   * Something that this page saw.
   *
   * @param {string} key
   * @param {object} values
   */
  add(key, values) {
    this.own.push({ time: Date.now() / 1000, level: "INFO", key, values });
    this.#show();
  }

  /**
   * What the workers' logs had. What a worker said stays when the worker is gone.
   *
   * @param {object[]} workers
   */
  take(workers) {
    for (const { worker, pid, recent_problems: problems } of workers) {
      for (const problem of problems ?? []) {
        this.problems.set(`${pid} ${problem.time} ${problem.message}`, { ...problem, worker });
      }
    }
    this.#show();
  }

  #show() {
    const all = [...this.own, ...this.problems.values()];
    const last = all.sort((a, b) => b.time - a.time).slice(0, MOST);
    this.empty.hidden = last.length > 0;
    this.list.replaceChildren(...last.map(entry));
  }
}

function entry({ time, level, key, values, worker, message, request_id: request }) {
  const words = h("span", { class: "words" });
  if (key) setText(words, "text", key, values);
  else words.textContent = message;
  const from = worker === undefined ? null : h("span", { class: "from" });
  if (from) setText(from, "text", "event.from", { worker });
  return h(
    "li",
    { class: `level-${level.toLowerCase()}` },
    h("time", { datetime: new Date(time * 1000).toISOString(), text: clock(time) }),
    from,
    words,
    request && request !== "-" ? h("code", { text: request }) : null,
  );
}
