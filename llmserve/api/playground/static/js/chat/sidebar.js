/** The list of conversations: open, rename, delete, export and import. */

import { h } from "../lib/dom.js";
import { language, t } from "../lib/i18n.js";
import { iconButton } from "../lib/page_controls.js";
import { icon } from "../lib/icons.js";

export class Sidebar {
  /**
   * @param {HTMLElement} element
   * @param {object} listeners `onNew()`, `onOpen(id)`, `onRename(id, title)`, `onDelete(id)`,
   *     `onExport()`, `onImport(text)`, `onKey()`.
   */
  constructor(element, listeners) {
    this.listeners = listeners;
    this.shown = "";
    this.isRenaming = false;
    this.list = h("ul", { class: "conversations", id: "conversations" });
    this.file = h("input", { type: "file", accept: ".json,application/json", hidden: true });
    this.file.addEventListener("change", () => this.#import());
    element.append(
      h("div", { class: "brand" }, h("span", { class: "mark", "aria-hidden": "true" }), "llmserve"),
      h(
        "button",
        { type: "button", id: "new", class: "wide", on: { click: () => listeners.onNew() } },
        icon("plus"),
        h("span", { t: "new" }),
      ),
      h("nav", { label: "conversations" }, this.list),
      h(
        "div",
        { class: "sidebar-foot" },
        footButton("download", "export", () => listeners.onExport()),
        footButton("upload", "import", () => this.file.click()),
        footButton("key", "key", () => listeners.onKey()),
        h("a", { class: "foot", href: "status" }, icon("pulse"), h("span", { t: "status" })),
        this.file,
      ),
    );
  }

  /**
   * Show these conversations.
   *
   * @param {import("./conversation.js").Conversation[]} conversations
   * @param {string} currentId
   */
  show(conversations, currentId) {
    // An answer that grows is kept every second: nothing under the visitor's hand may change then.
    const shown = JSON.stringify([
      currentId,
      language(),
      conversations.map(({ id, title }) => [id, title]),
    ]);
    if (shown === this.shown || this.isRenaming) return;
    this.shown = shown;
    this.list.replaceChildren(...conversations.map((c) => this.#entry(c, c.id === currentId)));
  }

  #entry(conversation, isCurrent) {
    const title = h("button", {
      type: "button",
      class: "title",
      text: conversation.title || t("untitled"),
      "aria-current": isCurrent ? "true" : null,
      on: { click: () => this.listeners.onOpen(conversation.id) },
    });
    const entry = h("li", {}, title);
    entry.append(
      iconButton("edit", "rename", () => this.#rename(entry, conversation)),
      iconButton("trash", "delete", () => this.listeners.onDelete(conversation.id)),
    );
    return entry;
  }

  /** A field in place of the title, until Enter, Escape, or a click elsewhere. */
  #rename(entry, conversation) {
    const field = h("input", { class: "title", value: conversation.title, label: "rename" });
    this.isRenaming = true;
    const end = (isKept) => {
      if (!this.isRenaming) return;
      this.isRenaming = false;
      this.shown = "";
      const title = isKept ? field.value.trim() : conversation.title;
      this.listeners.onRename(conversation.id, title || conversation.title);
    };
    field.addEventListener("keydown", (event) => {
      if (event.isComposing) return;
      if (event.key === "Escape") event.stopPropagation();
      if (event.key === "Enter" || event.key === "Escape") end(event.key === "Enter");
    });
    field.addEventListener("blur", () => end(true));
    entry.replaceChildren(field);
    field.select();
  }

  async #import() {
    const [file] = this.file.files;
    this.file.value = "";
    if (file) this.listeners.onImport(await file.text());
  }
}

function footButton(drawing, key, onClick) {
  const listeners = { click: onClick };
  return h(
    "button",
    { type: "button", class: "foot", on: listeners },
    icon(drawing),
    h("span", { t: key }),
  );
}
