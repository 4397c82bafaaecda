/** What is sent, exactly; and as a program to copy. */

import { SERVER } from "../lib/client.js";
import { copyButton } from "../lib/copying.js";
import { h } from "../lib/dom.js";
import { t } from "../lib/i18n.js";
import { KINDS, program } from "./copy_as.js";

export class RequestPane {
  /** @param {() => {body: object|null, hasKey: boolean}} current the request as it would be sent now. */
  constructor(current) {
    this.current = current;
    this.kind = KINDS[0];
    this.shown = h("pre", { id: "request", tabindex: "0", role: "region", label: "group.request" });
    const tabs = KINDS.map((kind) => this.#tab(kind));
    this.element = h(
      "div",
      { class: "request" },
      h(
        "div",
        { class: "row" },
        h("div", { class: "tabs", role: "group", label: "request.kinds" }, ...tabs),
        copyButton(() => this.shown.textContent),
      ),
      this.shown,
    );
  }

  /** Something of it has changed: show it anew, if anybody looks. */
  refresh() {
    if (!this.element.closest("details")?.open) return;
    const { body, hasKey } = this.current();
    this.shown.textContent =
      body === null ? t("problem.told") : program(this.kind, body, SERVER.href, hasKey);
  }

  #tab(kind) {
    const isChosen = () => String(kind === this.kind);
    const tab = h("button", {
      type: "button",
      class: "small",
      text: kind,
      "aria-pressed": isChosen(),
    });
    tab.addEventListener("click", () => {
      this.kind = kind;
      for (const other of tab.parentElement.children) {
        other.setAttribute("aria-pressed", String(other === tab));
      }
      this.refresh();
    });
    return tab;
  }
}
