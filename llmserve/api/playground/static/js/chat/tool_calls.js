/** The calls of an answer, and the form that takes their results. */

import { h } from "../lib/dom.js";
import { icon } from "../lib/icons.js";

/**
 * Calls as they are so far.
 *
 * @param {{id: string, name: string, arguments: string}[]} calls
 * @returns {HTMLElement[]}
 */
export function callViews(calls) {
  return calls.map((call) =>
    h(
      "section",
      { class: "call" },
      h("h3", { class: "call-name" }, icon("tool"), h("code", { text: call.name })),
      h("pre", { text: pretty(call.arguments), tabindex: "0" }),
    ),
  );
}

/**
 * A form with a field for each call; the conversation goes on with what is entered.
 *
 * @param {{id: string, name: string}[]} calls
 * @param {(results: {toolCallId: string, content: string}[]) => void} onResults
 * @returns {HTMLElement}
 */
export function resultsForm(calls, onResults) {
  const fields = calls.map((call, number) =>
    h("textarea", { id: `result-${number}`, rows: "2", required: true, hint: "result.hint" }),
  );
  const labels = calls.map((call, number) =>
    h(
      "label",
      { for: `result-${number}` },
      h("span", { t: "result.of" }),
      " ",
      h("code", { text: call.name }),
    ),
  );
  const form = h(
    "form",
    { class: "results" },
    ...fields.flatMap((field, number) => [labels[number], field]),
    h(
      "div",
      { class: "row end" },
      h("button", { type: "submit", class: "primary", t: "result.send" }),
    ),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    onResults(calls.map(({ id }, number) => ({ toolCallId: id, content: fields[number].value })));
  });
  return form;
}

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text; // it is still being written, or was cut short
  }
}
