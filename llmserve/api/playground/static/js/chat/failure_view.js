/** A request that failed, on the page: what the server says, and when another try makes sense. */

import { h } from "../lib/dom.js";
import { setText } from "../lib/i18n.js";

const TICK_MS = 250;

export class FailureView {
  /**
   * @param {import("../lib/failure.js").Failure} failure
   * @param {{onRetry: () => void, onKey: () => void}} listeners
   */
  constructor(failure, { onRetry, onKey }) {
    const button = (key, action) =>
      h("button", { type: "button", class: "small", t: key, on: { click: action } });
    this.retry = button("retry", onRetry);
    this.countdown = h("span", { class: "countdown" });
    const status = failure.status === 0 ? "" : `${failure.status} `;
    this.element = h(
      "div",
      { class: "failure", role: "alert" },
      h("strong", { text: `${status}${failure.code}`.trim() }),
      h("p", { text: failure.message }),
      h(
        "div",
        { class: "row" },
        this.retry,
        failure.isAboutKey ? button("key.enter", onKey) : null,
        this.countdown,
      ),
    );
    if (failure.retryAfter !== null && failure.isTemporary) this.#count(failure.retryAfter);
  }

  /** Down to the moment at which the server may take the request again. */
  #count(seconds) {
    const end = Date.now() + seconds * 1000;
    // A screen reader reads the alert once, and not each second.
    this.countdown.setAttribute("aria-hidden", "true");
    const show = () => {
      const left = Math.ceil((end - Date.now()) / 1000);
      if (left > 0) setText(this.countdown, "text", "retry.in", { seconds: left });
      else setText(this.countdown, "text", "retry.now");
      if (left <= 0 || !this.element.isConnected) clearInterval(timer);
    };
    const timer = setInterval(show, TICK_MS);
    setText(this.countdown, "text", "retry.in", { seconds: Math.ceil(seconds) });
  }
}
