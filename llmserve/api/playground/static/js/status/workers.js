/** The workers. One that is gone keeps its row until another has its number. */

import { Badge } from "./badge.js";
import { Table } from "./tables.js";
import { age, bytes, count } from "./units.js";

export class Workers {
  /**
   * @param {HTMLElement} place
   * @param {(key: string, values: object) => void} onEvent a worker came or went.
   */
  constructor(place, onEvent) {
    this.onEvent = onEvent;
    this.known = new Map();
    this.badges = new Map();
    this.table = new Table(place, "workers", [
      "worker",
      "state",
      "pid",
      "running",
      "connections",
      "memory",
      "device",
      "uptime",
    ]);
  }

  /**
   * What the workers say of themselves.
   *
   * @param {object[]} workers
   * @param {{worker: number}[]} silent those that did not answer.
   */
  show(workers, silent) {
    const now = new Map(workers.map((worker) => [worker.worker, worker]));
    const mute = new Set(silent.map(({ worker }) => worker));
    for (const [number, before] of this.known) {
      if (now.has(number)) continue;
      const state = mute.has(number) ? "silent" : "gone";
      if (before.state !== state)
        this.onEvent(`worker.event.${state}`, { worker: number, pid: before.pid });
      now.set(number, { ...before, state, connections: null, rss_bytes: null, models: [] });
    }
    for (const [number, worker] of now) {
      const before = this.known.get(number);
      if (before && before.pid !== worker.pid)
        this.onEvent("worker.event.new", { worker: number, pid: worker.pid });
    }
    this.known = now;
    const rows = [...now.values()].sort((a, b) => a.worker - b.worker);
    this.table.show(
      rows.map((worker) => ({ id: String(worker.worker), cells: this.#cells(worker) })),
    );
  }

  /**
   * The little that everybody may see.
   *
   * @param {{worker: number, state: string}[]} workers
   */
  showStates(workers) {
    this.table.show(
      workers.map(({ worker, state }) => ({
        id: String(worker),
        cells: [String(worker), this.#badge(worker, state), "–", "–", "–", "–", "–", "–"],
      })),
    );
  }

  #badge(number, state) {
    if (!this.badges.has(number)) this.badges.set(number, new Badge("worker"));
    const badge = this.badges.get(number);
    badge.show(state);
    return badge.element;
  }

  #cells(worker) {
    const isThere = worker.state !== "gone" && worker.state !== "silent";
    const running = worker.models.reduce((total, model) => total + model.running, 0);
    return [
      String(worker.worker),
      this.#badge(worker.worker, worker.state),
      String(worker.pid),
      isThere ? count(running) : "–",
      worker.connections === null ? "–" : count(worker.connections),
      bytes(worker.rss_bytes),
      worker.device,
      isThere ? age(worker.uptime_seconds) : "–",
    ];
  }
}
