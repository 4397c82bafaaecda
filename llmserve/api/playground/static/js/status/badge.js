/** A state in a word, and in a colour. */

import { h } from "../lib/dom.js";
import { hasText, setText } from "../lib/i18n.js";

const TONES = {
  ready: "good",
  serving: "good",
  loading: "busy",
  starting: "busy",
  unloading: "busy",
  draining: "busy",
  retiring: "busy",
  leaving: "busy",
  broken: "bad",
  hung: "bad",
  gone: "bad",
  silent: "bad",
};

export class Badge {
  /** @param {string} family of the keys of its words: `model` or `worker`. */
  constructor(family) {
    this.family = family;
    this.element = h("span", { class: "badge" });
  }

  /** @param {string} state */
  show(state) {
    const tone = TONES[state] ?? "";
    if (this.element.dataset.state === state) return;
    this.element.dataset.state = state;
    this.element.className = `badge ${tone}`;
    // A server of another version may know states that this page has no words for.
    const key = `${this.family}.${state}`;
    if (hasText(key)) setText(this.element, "text", key);
    else this.element.textContent = state;
  }
}
