/** One message of a conversation as an element, with what can be done to it. */

import { copyButton } from "../lib/copying.js";
import { h } from "../lib/dom.js";
import { icon } from "../lib/icons.js";
import { openCalls } from "./conversation.js";
import { AnswerView } from "./answer_view.js";
import { resultsForm } from "./tool_calls.js";

/**
 * The element of a message.
 *
 * @param {import("./conversation.js").Conversation} conversation
 * @param {number} index of the message.
 * @param {object} listeners `onEdit(index, text)`, `onRegenerate()`, `onResults(results)`.
 * @param {boolean} isIdle whether no answer is being written.
 * @returns {HTMLElement}
 */
export function messageView(conversation, index, listeners, isIdle) {
  const message = conversation.messages[index];
  const isLast = index === conversation.messages.length - 1;
  if (message.role === "user") {
    const view = userView(message, (text) => listeners.onEdit(index, text));
    // Nothing came of it: the page was closed, say, before the first token.
    if (isLast && isIdle) view.append(againButton(listeners));
    return view;
  }
  if (message.role === "tool") return resultView(conversation, message);
  const view = new AnswerView();
  view.showWhole(message);
  if (isLast && isIdle) offerNext(conversation, view, listeners);
  return view.element;
}

/**
 * What can be done after the last answer: make it again, or tell the results of its calls.
 *
 * @param {import("./conversation.js").Conversation} conversation
 * @param {AnswerView} view
 * @param {object} listeners those of `messageView`.
 */
export function offerNext(conversation, view, listeners) {
  view.offer(againButton(listeners));
  const open = openCalls(conversation);
  if (open.length > 0) view.element.append(resultsForm(open, listeners.onResults));
}

function againButton({ onRegenerate }) {
  return actionButton("again", "regenerate", onRegenerate);
}

/** A small button below a message. */
function actionButton(drawing, key, onClick) {
  const fields = { type: "button", class: "quiet small", on: { click: onClick } };
  return h("button", fields, icon(drawing), h("span", { t: key }));
}

function userView(message, onEdit) {
  const bubble = h("div", { class: "bubble", text: message.content });
  const actions = h(
    "div",
    { class: "actions" },
    copyButton(() => message.content),
    actionButton("edit", "edit", () => edit(view, bubble, actions, message, onEdit)),
  );
  const view = h(
    "article",
    { class: "message user" },
    h("h2", { class: "offscreen", t: "you" }),
    bubble,
    actions,
  );
  return view;
}

/** A field in place of the message. What followed it goes when it is sent again. */
function edit(view, bubble, actions, message, onEdit) {
  const field = h("textarea", { class: "edit", label: "edit", rows: "3" });
  field.value = message.content;
  const restore = () => {
    form.remove();
    bubble.hidden = false;
    actions.hidden = false;
    actions.querySelector("button:last-child").focus();
  };
  const send = () => {
    if (field.value.trim() !== "") onEdit(field.value.trim());
  };
  const form = h(
    "div",
    { class: "edit-form" },
    field,
    h(
      "div",
      { class: "row end" },
      h("button", { type: "button", class: "quiet", t: "cancel", on: { click: restore } }),
      h("button", { type: "button", class: "primary", t: "resend", on: { click: send } }),
    ),
  );
  field.addEventListener("keydown", (event) => {
    if (event.isComposing) return;
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      send();
    } else if (event.key === "Escape") {
      event.stopPropagation();
      restore();
    }
  });
  bubble.hidden = true;
  actions.hidden = true;
  view.append(form);
  field.focus();
}

function resultView(conversation, message) {
  const calls = conversation.messages.flatMap(({ toolCalls }) => toolCalls ?? []);
  const name = calls.find(({ id }) => id === message.toolCallId)?.name ?? "";
  return h(
    "article",
    { class: "message result" },
    h(
      "h2",
      { class: "call-name" },
      icon("tool"),
      h("span", { t: "result.of" }),
      h("code", { text: name }),
    ),
    h("pre", { text: message.content, tabindex: "0" }),
  );
}
