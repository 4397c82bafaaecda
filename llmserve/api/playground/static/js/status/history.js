/** What the charts show: the metrics of the last minutes. Knows no page. */

import { quantile, since } from "./metrics.js";

/** How many readings are kept. */
export const READINGS = 150;
/** Percentiles are those of the last so many seconds. */
export const WINDOW_SECONDS = 60;

const HISTOGRAMS = {
  ttft: "llmserve_time_to_first_token_seconds",
  itl: "llmserve_inter_token_latency_seconds",
};
const COUNTERS = {
  tokens: "llmserve_generation_tokens_total",
  encoded: "llmserve_encoding_tokens_total",
  refused: "llmserve_requests_rejected_total",
  failed: "llmserve_request_failure_total",
};

export class History {
  constructor() {
    this.readings = [];
    this.points = [];
  }

  /**
   * Add a reading of the metrics.
   *
   * @param {import("./metrics.js").Metrics} metrics
   * @param {number} at seconds, on a clock that only goes forward.
   */
  add(metrics, at) {
    const reading = { at };
    for (const [name, series] of Object.entries(COUNTERS)) reading[name] = metrics.sum(series) ?? 0;
    for (const [name, series] of Object.entries(HISTOGRAMS))
      reading[name] = metrics.histogram(series);
    const before = this.readings.at(-1);
    // A counter that fell belongs to a server that was started anew.
    const fell = (name) => before && reading[name] < before[name];
    if (fell("tokens") || fell("encoded")) this.readings = [];
    this.readings.push(reading);
    this.points.push({
      at,
      running: metrics.sum("llmserve_num_requests_running") ?? 0,
      waiting: metrics.sum("llmserve_num_requests_waiting") ?? 0,
      rate: this.#rate("tokens"),
      encoded: this.#rate("encoded"),
      refused: this.#rate("refused"),
      failed: this.#rate("failed"),
      kv: metrics.most("llmserve_kv_cache_usage_perc"),
      ttft50: this.#percentile("ttft", 0.5),
      ttft95: this.#percentile("ttft", 0.95),
      itl50: this.#percentile("itl", 0.5),
      itl95: this.#percentile("itl", 0.95),
    });
    if (this.readings.length > READINGS) this.readings.shift();
    if (this.points.length > READINGS) this.points.shift();
  }

  /** How fast a counter has grown since the reading before, per second. */
  #rate(name) {
    const [before, now] = this.readings.slice(-2);
    return now === undefined ? 0 : (now[name] - before[name]) / (now.at - before.at);
  }

  #percentile(name, share) {
    const now = this.readings.at(-1);
    const first =
      this.readings.findLast(({ at }) => at <= now.at - WINDOW_SECONDS) ?? this.readings[0];
    return quantile(since(now[name], first[name]), share);
  }
}
