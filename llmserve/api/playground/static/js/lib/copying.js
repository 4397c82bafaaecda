/** Copying to the clipboard, and the button that does it. */

import { h } from "./dom.js";
import { icon } from "./icons.js";
import { setText } from "./i18n.js";

const SHOWN_MS = 1500;

/**
 * A button that copies a text, and says so.
 *
 * @param {() => string} text asked for when it is pressed.
 * @param {string} [key] of its name.
 * @returns {HTMLElement}
 */
export function copyButton(text, key = "copy") {
  const words = h("span", { t: key });
  const button = h("button", { type: "button", class: "quiet small" }, icon("copy"), words);
  button.addEventListener("click", async () => {
    const isDone = await copied(text());
    setText(words, "text", isDone ? "copied" : "copy.failed");
    setTimeout(() => setText(words, "text", key), SHOWN_MS);
  });
  return button;
}

/** Pages over plain HTTP, but for this machine's own, have no clipboard: a selection is copied. */
async function copied(text) {
  try {
    if (navigator.clipboard) {
      await navigator.clipboard.writeText(text);
      return true;
    }
  } catch {
    // The visitor, or the browser, forbids it: try the older way.
  }
  const field = h("textarea", { class: "offscreen", "aria-hidden": "true" });
  field.value = text;
  const before = document.activeElement;
  document.body.append(field);
  field.select();
  const isDone = document.execCommand("copy");
  field.remove();
  before?.focus();
  return isDone;
}
