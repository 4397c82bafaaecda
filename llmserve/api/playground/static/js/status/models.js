/** The models: where each is in its life, what it does, and an operator's buttons. */

import { h } from "../lib/dom.js";
import { t } from "../lib/i18n.js";
import { Badge } from "./badge.js";
import { Table } from "./tables.js";
import { bytes, count, share } from "./units.js";

const COMMANDS = ["load", "warm", "unload"];

/** Which commands make sense in which state; in all others none does. */
const POSSIBLE = {
  ready: ["warm", "unload"],
  unloaded: ["load", "warm"],
  broken: ["load", "unload"],
};

/** Which commands adapters know. */
const OF_ADAPTERS = ["load", "unload"];

export class Models {
  /**
   * @param {HTMLElement} place
   * @param {(command: string, model: string) => void} onCommand
   */
  constructor(place, onCommand) {
    this.onCommand = onCommand;
    this.cards = new Map();
    this.table = new Table(place, "models", [
      "model",
      "state",
      "running",
      "waiting.count",
      "memory",
      "engine",
      "",
    ]);
  }

  /**
   * Show models, and the buttons to whom may press them.
   *
   * @param {object[]} models as `merged` gives them.
   * @param {boolean} isAdmin
   */
  show(models, isAdmin) {
    this.table.show(
      models.map((model) => ({ id: model.name, cells: this.#cells(model, isAdmin) })),
    );
  }

  /**
   * How far a command is, as the server tells while it runs.
   *
   * @param {string} name of the model.
   * @param {{status: string, stage?: string, fraction?: number}} progress
   */
  showProgress(name, progress) {
    this.cards.get(name)?.showState(progress);
  }

  #cells(model, isAdmin) {
    if (!this.cards.has(model.name))
      this.cards.set(model.name, new Card(model.name, this.onCommand));
    const card = this.cards.get(model.name);
    card.showState(model);
    const possible = isAdmin ? (POSSIBLE[model.status] ?? []) : [];
    card.showCommands(possible.filter((one) => !model.isAdapter || OF_ADAPTERS.includes(one)));
    const engine = model.engine ? `${model.engine}, ${model.device}, ${model.dtype}` : "–";
    return [
      model.name,
      card.state,
      count(model.running),
      count(model.waiting),
      bytes(model.memory_bytes),
      engine,
      card.commands,
    ];
  }
}

/** What of a model's row is an element of its own. */
class Card {
  constructor(name, onCommand) {
    this.badge = new Badge("model");
    this.bar = h("progress", { max: "1", hidden: true, "aria-label": name });
    this.words = h("span", { class: "detail" });
    this.state = h("div", { class: "state" }, this.badge.element, this.bar, this.words);
    this.buttons = COMMANDS.map((command) =>
      h("button", {
        type: "button",
        class: "small",
        t: command,
        on: { click: () => onCommand(command, name) },
      }),
    );
    this.commands = h("div", { class: "commands" }, ...this.buttons);
  }

  showState({ status, stage, fraction = null, error }) {
    this.badge.show(status);
    const isLoading = status === "loading";
    this.bar.hidden = !isLoading;
    // Some stages cannot say how far they are.
    if (fraction === null) this.bar.removeAttribute("value");
    else this.bar.value = fraction;
    const progress = isLoading ? [stage, fraction === null ? null : share(fraction)] : [];
    this.words.textContent = error ?? progress.filter(Boolean).join(", ");
  }

  showCommands(possible) {
    this.buttons.forEach((button, number) => {
      button.hidden = possible.length === 0;
      button.disabled = !possible.includes(COMMANDS[number]);
    });
  }
}

/**
 * The models of all workers as one list, each with its adapters after it. Where workers differ, the one that is least ready counts.
 *
 * @param {{models: object[]}[]} workers
 * @returns {object[]}
 */
export function merged(workers) {
  const order = ["broken", "loading", "unloading", "unloaded", "ready"];
  const models = new Map();
  for (const model of workers.flatMap((worker) => worker.models.flatMap(withAdapters))) {
    const known = models.get(model.name);
    if (known === undefined) {
      models.set(model.name, { ...model });
      continue;
    }
    const [first] = [known, model].sort(
      (a, b) => order.indexOf(a.status) - order.indexOf(b.status),
    );
    models.set(model.name, {
      ...known,
      ...first,
      running: known.running + model.running,
      waiting: known.waiting + model.waiting,
      memory_bytes: (known.memory_bytes ?? 0) + (model.memory_bytes ?? 0),
    });
  }
  return [...models.values()];
}

function withAdapters(model) {
  const adapters = (model.adapters ?? []).map((adapter) => ({
    ...adapter,
    isAdapter: true,
    running: adapter.open,
    waiting: 0,
  }));
  return [model, ...adapters];
}

/** The words that say what a command did. */
export function told(command, model, report) {
  return report.ok ? t(`done.${command}`, { model }) : report.error.message;
}
