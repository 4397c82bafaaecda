/** What both pages have in their bar: the theme, the language and the key. */

import { h } from "./dom.js";
import { icon } from "./icons.js";
import { LANGUAGES, language, setLanguage } from "./i18n.js";
import { preference, setPreference } from "./preferences.js";

const THEMES = ["auto", "light", "dark"];

/**
 * A button with a drawing.
 *
 * @param {string} name of the drawing.
 * @param {string} label the key of its accessible name.
 * @param {(event: Event) => void} [onClick]
 * @param {object} [properties] further ones.
 * @returns {HTMLButtonElement}
 */
export function iconButton(name, label, onClick = () => {}, properties = {}) {
  const fields = {
    type: "button",
    class: "icon-button",
    label,
    on: { click: onClick },
    ...properties,
  };
  return h("button", fields, icon(name));
}

/**
 * The choice of the theme.
 *
 * @returns {HTMLElement}
 */
export function themePicker() {
  const options = THEMES.map((theme) => h("option", { value: theme, t: `theme.${theme}` }));
  const select = h("select", { id: "theme", label: "theme" }, ...options);
  select.value = preference("theme", "auto");
  select.addEventListener("change", () => {
    setPreference("theme", select.value);
    if (select.value === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = select.value;
  });
  return labelled("theme", select);
}

/**
 * The choice of the language.
 *
 * @returns {HTMLElement}
 */
export function languagePicker() {
  const names = { en: "English", zh: "中文" };
  const options = LANGUAGES.map((code) =>
    h("option", { value: code, lang: code, text: names[code] }),
  );
  const select = h("select", { id: "language", label: "language" }, ...options);
  select.value = language();
  select.addEventListener("change", () => setLanguage(select.value));
  return labelled("language", select);
}

function labelled(drawing, select) {
  return h("span", { class: "picker" }, icon(drawing), select);
}
