/**
 * Building elements. Texts become text nodes, so nothing that a model wrote is ever parsed as HTML.
 */

import { setText } from "./i18n.js";

const SVG = "http://www.w3.org/2000/svg";

/**
 * An element.
 *
 * @param {string} tag
 * @param {object} [properties] attributes; `on` has listeners, `text` a text, `t` the key of a
 *     translated text, `label` the key of its accessible name, `hint` that of its placeholder.
 *     False, null and undefined leave an attribute out; true sets it without a value.
 * @param {...(Node|string|null|undefined|false)} children
 * @returns {HTMLElement}
 */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  const { on = {}, text, t, label, hint, ...attributes } = properties;
  for (const [name, value] of Object.entries(attributes)) {
    setAttribute(element, name, value);
  }
  for (const [event, listener] of Object.entries(on)) {
    element.addEventListener(event, listener);
  }
  if (text !== undefined) element.textContent = text;
  if (t !== undefined) setText(element, "text", t);
  if (label !== undefined) setText(element, "label", label);
  if (hint !== undefined) setText(element, "placeholder", hint);
  element.append(
    ...children.filter((child) => child !== null && child !== undefined && child !== false),
  );
  return element;
}

/**
 * An SVG element.
 *
 * @param {string} tag
 * @param {object} [attributes]
 * @param {...Node} children
 * @returns {SVGElement}
 */
export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) {
    setAttribute(element, name, value);
  }
  element.append(...children);
  return element;
}

function setAttribute(element, name, value) {
  if (value === false || value === null || value === undefined) return;
  element.setAttribute(name, value === true ? "" : String(value));
}
