/** The choice among the served models. */

import { h } from "../lib/dom.js";
import { hasText, t } from "../lib/i18n.js";
import { preference, setPreference } from "../lib/preferences.js";

export class ModelPicker {
  /** @param {() => void} onChange */
  constructor(onChange) {
    this.models = [];
    this.select = h("select", { id: "model", label: "model" });
    this.select.addEventListener("change", () => {
      setPreference("model", this.select.value);
      onChange();
    });
    document.addEventListener("languagechosen", () => this.show(this.models));
  }

  /** The name of the model that is chosen. */
  get name() {
    return this.select.value;
  }

  /** What the server says of it. */
  get model() {
    return this.models.find(({ id }) => id === this.name);
  }

  /**
   * Offer those of these models that generate; the choice stays, if it can.
   *
   * @param {object[]} models as /v1/models has them.
   */
  show(models) {
    const wanted = this.name || preference("model", "");
    this.models = generating(models);
    this.select.replaceChildren(...this.models.map(optionOf));
    if (this.models.some(({ id }) => id === wanted)) this.select.value = wanted;
  }
}

/**
 * Without those that only make numbers of texts. What a model can do that is not loaded may not be
 * known yet.
 *
 * @param {{capabilities?: string[]}[]} models
 * @returns {object[]}
 */
export function generating(models) {
  return models.filter(({ capabilities }) => capabilities?.includes("completions") ?? true);
}

function optionOf({ id, status }) {
  const key = `model.${status}`;
  const text = status === "ready" ? id : `${id} (${hasText(key) ? t(key) : status})`;
  return h("option", { value: id, text });
}
