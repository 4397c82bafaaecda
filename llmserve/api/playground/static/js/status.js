/** The status page: connects what the server tells of itself with the page's parts. */

import { Client } from "./lib/client.js";
import { h } from "./lib/dom.js";
import { Failure } from "./lib/failure.js";
import { startLanguage, setText } from "./lib/i18n.js";
import { icon } from "./lib/icons.js";
import { askForKey } from "./lib/key_dialog.js";
import { languagePicker, themePicker, iconButton } from "./lib/page_controls.js";
import { KeyRing } from "./lib/preferences.js";
import { toast } from "./lib/toast.js";
import { Chart } from "./status/chart.js";
import { Events } from "./status/events.js";
import { GPUs } from "./status/gpus.js";
import { History } from "./status/history.js";
import { Live } from "./status/live.js";
import { Models, merged, told } from "./status/models.js";
import { count, duration, share } from "./status/units.js";
import { Workers } from "./status/workers.js";

class Status {
  constructor() {
    // Not the key of the chat: most visitors of that have no operator's.
    this.keys = new KeyRing("admin_key");
    this.client = new Client(this.keys);
    this.history = new History();
    this.workers = [];
    this.live = new Live(this.client, {
      onStatus: (status) => this.#showStatus(status),
      onHealth: (health) => this.#showHealth(health),
      onMetrics: (metrics) => this.#showMetrics(metrics),
      onRefused: (failure) => this.#refused(failure),
      onReached: (isReached) => this.#reached(isReached),
    });
    this.#build();
  }

  start() {
    this.live.start();
  }

  #build() {
    const byId = (id) => document.getElementById(id);
    this.announcer = byId("announcer");
    this.notice = byId("notice");
    this.charts = [
      new Chart("chart.requests", [line("running"), line("waiting", "waiting.count")], count, 5),
      new Chart(
        "chart.rate",
        [{ name: "rate", key: "tokens_per_second" }, line("encoded")],
        count,
        10,
      ),
      new Chart("chart.ttft", [line("ttft50", "p50"), line("ttft95", "p95")], duration, 0.01),
      new Chart("chart.itl", [line("itl50", "p50"), line("itl95", "p95")], duration, 0.001),
      new Chart("chart.failures", [line("refused"), line("failed")], count, 1),
      new Chart("chart.kv", [{ name: "kv", key: "in_use" }], share, 1),
    ];
    byId("charts").append(...this.charts.map(({ element }) => element));
    this.models = new Models(byId("models"), (command, model) => this.#run(command, model));
    this.events = new Events(byId("events"));
    this.workerTable = new Workers(byId("workers"), (key, values) => this.events.add(key, values));
    this.gpus = new GPUs(byId("gpus"));
    byId("bar").append(
      h(
        "a",
        { class: "brand", href: "./" },
        h("span", { class: "mark", "aria-hidden": "true" }),
        "llmserve",
      ),
      h(
        "a",
        { class: "foot", href: "./", label: "chat.title" },
        icon("chat"),
        h("span", { t: "chat.title" }),
      ),
      h("span", { class: "space" }),
      themePicker(),
      languagePicker(),
      iconButton("key", "key.admin", () => this.#askForKey()),
    );
  }

  #showStatus({ workers, silent }) {
    this.workers = workers;
    this.notice.replaceChildren();
    this.workerTable.show(workers, silent);
    this.events.take(workers);
    if (workers.length > 0) this.models.show(merged(workers), true);
  }

  #showHealth({ models, workers }) {
    if (this.live.isAdmin) return;
    this.models.show(models, false);
    this.workerTable.showStates(workers);
  }

  #showMetrics(metrics) {
    this.history.add(metrics, performance.now() / 1000);
    for (const chart of this.charts) chart.show(this.history.points);
    this.gpus.show(metrics);
  }

  #refused(failure) {
    this.notice.replaceChildren(
      h(
        "div",
        { class: "notice" },
        h("p", { t: this.keys.value === "" ? "admin.needed" : "admin.wrong" }),
        h("p", { class: "note", text: failure.message }),
        h("button", { type: "button", t: "key.enter", on: { click: () => this.#askForKey() } }),
      ),
    );
  }

  #reached(isReached) {
    if (document.body.classList.contains("unreached") !== isReached) return;
    document.body.classList.toggle("unreached", !isReached);
    if (isReached) {
      this.unreached.remove();
    } else {
      this.unreached = h("p", { class: "notice bad", role: "alert", t: "failure.unreachable" });
      this.notice.before(this.unreached);
    }
  }

  async #askForKey() {
    if (await askForKey(this.keys, "key.admin.note")) this.live.start();
  }

  /** A command of an operator, with its progress as the server tells it. */
  async #run(command, model) {
    try {
      const body = { model, stream: true };
      for await (const event of this.client.events(`admin/${command}`, { body })) {
        if (!("data" in event)) continue;
        const report = JSON.parse(event.data);
        if (event.name === "progress") {
          this.models.showProgress(model, report);
        } else {
          toast(told(command, model, report));
          setText(this.announcer, "text", report.ok ? `done.${command}` : "done.not", { model });
        }
      }
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      toast(error.message);
    }
  }
}

function line(name, key = name) {
  return { name, key };
}

startLanguage();
new Status().start();
