/** The field in which the visitor writes, and the button that sends, or stops. */

import { h } from "../lib/dom.js";
import { setText } from "../lib/i18n.js";
import { icon } from "../lib/icons.js";

export class Composer {
  /**
   * @param {HTMLFormElement} form
   * @param {{onSend: (text: string) => void, onStop: () => void, onInput: () => void}} listeners
   */
  constructor(form, { onSend, onStop, onInput }) {
    this.onSend = onSend;
    this.onStop = onStop;
    this.isBusy = false;
    this.field = h("textarea", {
      id: "prompt",
      rows: "1",
      enterkeyhint: "send",
      label: "composer.label",
      hint: "composer.hint",
    });
    this.button = h("button", { type: "submit", id: "send", class: "round primary" });
    form.append(
      h("div", { class: "composer-box" }, this.field, this.button),
      h(
        "p",
        { class: "composer-note" },
        h("span", { t: "composer.keys" }),
        " ",
        h("span", { t: "composer.note" }),
      ),
    );
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#act();
    });
    this.field.addEventListener("input", () => {
      this.#fit();
      onInput();
    });
    this.field.addEventListener("keydown", (event) => this.#key(event));
    this.setBusy(false);
  }

  /** What is written, and not sent yet. */
  get text() {
    return this.field.value;
  }

  set text(text) {
    this.field.value = text;
    this.#fit();
  }

  /** @param {boolean} isBusy whether an answer is being written: then the button stops it. */
  setBusy(isBusy) {
    this.isBusy = isBusy;
    this.button.replaceChildren(icon(isBusy ? "stop" : "send"));
    setText(this.button, "label", isBusy ? "stop" : "send");
  }

  focus() {
    this.field.focus();
  }

  #key(event) {
    // While letters are composed (Chinese, say), Enter chooses among them.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    if (!this.isBusy) this.#act();
  }

  #act() {
    if (this.isBusy) {
      this.onStop();
      return;
    }
    const text = this.text.trim();
    if (text === "") return;
    this.text = "";
    this.onSend(text);
  }

  #fit() {
    this.field.style.height = "auto";
    this.field.style.height = `${this.field.scrollHeight}px`;
  }
}
