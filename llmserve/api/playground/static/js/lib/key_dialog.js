/** The dialog in which a visitor enters a key. */

import { h } from "./dom.js";

/**
 * Ask for a key.
 *
 * @param {import("./preferences.js").KeyRing} keys
 * @param {string} about the key of the words above the field.
 * @returns {Promise<boolean>} whether there is another key now.
 */
export function askForKey(keys, about) {
  const field = h("input", {
    id: "key",
    type: "password",
    autocomplete: "off",
    spellcheck: "false",
    value: keys.value,
  });
  const remember = h("input", { id: "remember", type: "checkbox", checked: keys.isRemembered });
  const cancel = h("button", { type: "button", class: "quiet", t: "cancel" });
  const form = h(
    "form",
    { method: "dialog" },
    h("h2", { id: "key-title", t: "key.title" }),
    h("p", { class: "note", t: about }),
    h("label", { for: "key", t: "key.label" }),
    field,
    h("label", { class: "check" }, remember, h("span", { t: "key.remember" })),
    h(
      "div",
      { class: "row end" },
      cancel,
      h("button", { type: "submit", class: "primary", t: "key.use" }),
    ),
  );
  const dialog = h("dialog", { class: "dialog", "aria-labelledby": "key-title" }, form);
  document.body.append(dialog);
  dialog.showModal();
  field.select();
  return new Promise((resolve) => {
    cancel.addEventListener("click", () => dialog.close());
    form.addEventListener("submit", () => {
      keys.set(field.value, remember.checked);
      dialog.returnValue = "used";
    });
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "used");
    });
  });
}
