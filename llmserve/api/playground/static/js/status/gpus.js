/** The GPUs, where the server tells of any. */

import { Table } from "./tables.js";
import { bytes, share } from "./units.js";

export class GPUs {
  /** @param {HTMLElement} place hidden as long as there is none. */
  constructor(place) {
    this.place = place;
    this.table = new Table(place, "gpus", ["gpu", "memory", "memory.total", "utilization"]);
  }

  /** @param {import("./metrics.js").Metrics} metrics */
  show(metrics) {
    const of = (name) =>
      new Map(metrics.samples(name).map(({ labels, value }) => [labels.gpu, value]));
    const total = of("llmserve_gpu_memory_total_bytes");
    const used = of("llmserve_gpu_memory_used_bytes");
    const busy = of("llmserve_gpu_utilization_ratio");
    this.place.hidden = total.size === 0;
    const rows = [...total].map(([gpu, most]) => ({
      id: gpu,
      cells: [gpu, bytes(used.get(gpu)), bytes(most), busy.has(gpu) ? share(busy.get(gpu)) : "–"],
    }));
    this.table.show(rows);
  }
}
