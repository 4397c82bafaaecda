/**
 * The page's words in the visitor's language. Elements remember the key of their text, so that
 * another language can be chosen while an answer is being written.
 */

import { en } from "./en.js";
import { preference, setPreference } from "./preferences.js";
import { zh } from "./zh.js";

const TEXTS = { en, zh };
let chosen = "en";

/** The languages, by code. */
export const LANGUAGES = Object.keys(TEXTS);

/**
 * The words for a key.
 *
 * @param {string} key
 * @param {Object<string, string|number>} [values] put in place of `{name}`.
 * @returns {string}
 */
export function t(key, values = {}) {
  const text = TEXTS[chosen][key];
  if (text === undefined) throw new Error(`no text for ${key}`);
  return text.replace(/\{(\w+)\}/g, (_, name) => String(values[name]));
}

/**
 * Whether there are words for a key.
 *
 * @param {string} key
 */
export function hasText(key) {
  return key in TEXTS.en;
}

/** The code of the language that is spoken now. */
export function language() {
  return chosen;
}

/** Speak the language that the visitor chose, or the first of the browser's that we know. */
export function startLanguage() {
  const wanted = [preference("language", ""), ...(navigator.languages ?? [])];
  const codes = wanted.map((code) => code.toLowerCase().split("-")[0]);
  speak(codes.find((code) => code in TEXTS) ?? "en");
}

/**
 * Speak another language from now on, everywhere on the page.
 *
 * @param {string} code
 */
export function setLanguage(code) {
  setPreference("language", code);
  speak(code);
  document.dispatchEvent(new CustomEvent("languagechosen"));
}

/**
 * Give an element a text, its accessible name or its placeholder, in every language.
 *
 * @param {Element} element
 * @param {"text"|"label"|"placeholder"} place
 * @param {string} key
 * @param {Object<string, string|number>} [values]
 */
export function setText(element, place, key, values = {}) {
  element.setAttribute(`data-t-${place}`, JSON.stringify([key, values]));
  write(element, place);
}

function speak(code) {
  chosen = code;
  document.documentElement.lang = code === "zh" ? "zh-CN" : code;
  for (const place of ["text", "label", "placeholder"]) {
    for (const element of document.querySelectorAll(`[data-t-${place}]`)) write(element, place);
  }
}

function write(element, place) {
  const stored = element.getAttribute(`data-t-${place}`);
  // In the pages' HTML it is the key alone.
  const [key, values] = stored.startsWith("[") ? JSON.parse(stored) : [stored, {}];
  const words = t(key, values);
  if (place === "text") element.textContent = words;
  if (place === "placeholder") element.setAttribute("placeholder", words);
  if (place === "label") {
    element.setAttribute("aria-label", words);
    if (element.localName === "button" || element.localName === "a") element.title = words;
  }
}
