/** Short notices over the page, with at most one thing to do. */

import { h } from "./dom.js";
import { t } from "./i18n.js";

const SHOWN_MS = 7000;

/**
 * Show a notice for some seconds.
 *
 * @param {string} words
 * @param {{key: string, run: () => void}} [action] a button: the key of its text, and what it does.
 */
export function toast(words, action) {
  const notice = h("div", { class: "toast", role: "status" }, h("span", { text: words }));
  if (action) {
    const run = () => {
      notice.remove();
      action.run();
    };
    notice.append(h("button", { type: "button", text: t(action.key), on: { click: run } }));
  }
  document.getElementById("toasts").append(notice);
  setTimeout(() => notice.remove(), SHOWN_MS);
}
