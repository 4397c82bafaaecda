/** The messages on the page, the newest in sight unless the visitor scrolled away from it. */

import { h } from "../lib/dom.js";
import { messageView, offerNext } from "./message_view.js";

const NEAR_PX = 80;

export class Thread {
  /**
   * @param {HTMLElement} scroller
   * @param {HTMLElement} list
   * @param {object} listeners those of `messageView`, and `onExample(text)`.
   */
  constructor(scroller, list, listeners) {
    this.scroller = scroller;
    this.list = list;
    this.listeners = listeners;
    this.isAtEnd = true;
    scroller.addEventListener("scroll", () => {
      const below = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight;
      this.isAtEnd = below < NEAR_PX;
    });
  }

  /**
   * Show a conversation, and the answer that is being written in it.
   *
   * @param {import("./conversation.js").Conversation} conversation
   * @param {{element: HTMLElement}|null} answerView
   * @param {number} [count] show only so many messages.
   */
  show(conversation, answerView, count = conversation.messages.length) {
    const views = conversation.messages
      .slice(0, count)
      .map((_, index) => messageView(conversation, index, this.listeners, answerView === null));
    if (answerView !== null) views.push(answerView.element);
    this.list.replaceChildren(...(views.length > 0 ? views : [this.#welcome()]));
    this.isAtEnd = true;
    this.follow();
  }

  /**
   * The answer that was being written is complete, or nothing came of it. All else stays as it is.
   *
   * @param {import("./conversation.js").Conversation} conversation
   * @param {import("./answer_view.js").AnswerView} answerView
   * @param {boolean} hasAnswer
   */
  settle(conversation, answerView, hasAnswer) {
    if (hasAnswer) offerNext(conversation, answerView, this.listeners);
    else answerView.element.remove();
    this.follow();
  }

  /**
   * Show something below the messages.
   *
   * @param {HTMLElement} element
   */
  append(element) {
    this.list.append(element);
    this.follow();
  }

  /** Bring the end into sight, if it was before. */
  follow() {
    if (this.isAtEnd) this.scroller.scrollTop = this.scroller.scrollHeight;
  }

  #welcome() {
    const examples = ["example.1", "example.2", "example.3"].map((key) =>
      h("button", {
        type: "button",
        class: "example",
        t: key,
        on: { click: ({ target }) => this.listeners.onExample(target.textContent) },
      }),
    );
    return h(
      "section",
      { class: "welcome" },
      h("h2", { t: "welcome" }),
      h("p", { class: "note", t: "welcome.note" }),
      h("div", { class: "examples" }, ...examples),
    );
  }
}
