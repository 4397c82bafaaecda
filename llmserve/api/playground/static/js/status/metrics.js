/** Prometheus's text format, as far as this server writes it. Knows no page. */

const SAMPLE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)/;
const LABEL = /([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/g;
const ESCAPES = { "\\\\": "\\", '\\"': '"', "\\n": "\n" };

export class Metrics {
  /** @param {string} text what GET /metrics answers. */
  constructor(text) {
    this.series = new Map();
    for (const line of text.split("\n")) {
      const found = line.startsWith("#") ? null : SAMPLE.exec(line);
      if (found)
        this.#add(found[1], labelsOf(found[2] ?? ""), Number(found[3].replace("Inf", "Infinity")));
    }
  }

  /**
   * The samples of a series.
   *
   * @param {string} name
   * @returns {{labels: Object<string, string>, value: number}[]}
   */
  samples(name) {
    return this.series.get(name) ?? [];
  }

  /**
   * The sum of a series, or null where it has no samples.
   *
   * @param {string} name
   * @returns {number|null}
   */
  sum(name) {
    const samples = this.samples(name);
    return samples.length === 0 ? null : samples.reduce((total, { value }) => total + value, 0);
  }

  /**
   * The largest sample of a series, or null where it has none.
   *
   * @param {string} name
   * @returns {number|null}
   */
  most(name) {
    const values = this.samples(name).map(({ value }) => value);
    return values.length === 0 ? null : Math.max(...values);
  }

  /**
   * A histogram, all labels together: how many observations were at most each bound.
   *
   * @param {string} name
   * @returns {Map<number, number>}
   */
  histogram(name) {
    const buckets = new Map();
    for (const { labels, value } of this.samples(`${name}_bucket`)) {
      const bound = Number(labels.le.replace("Inf", "Infinity"));
      buckets.set(bound, (buckets.get(bound) ?? 0) + value);
    }
    return new Map([...buckets].sort(([a], [b]) => a - b));
  }

  #add(name, labels, value) {
    if (!this.series.has(name)) this.series.set(name, []);
    this.series.get(name).push({ labels, value });
  }
}

/**
 * What of a histogram came since an earlier one.
 *
 * @param {Map<number, number>} now
 * @param {Map<number, number>} before
 * @returns {Map<number, number>}
 */
export function since(now, before) {
  return new Map([...now].map(([bound, count]) => [bound, count - (before.get(bound) ?? 0)]));
}

/**
 * A quantile of a histogram, as Prometheus computes it: linear within a bucket. Null without
 * observations.
 *
 * @param {Map<number, number>} buckets
 * @param {number} share 0 to 1.
 * @returns {number|null}
 */
export function quantile(buckets, share) {
  const total = buckets.get(Infinity) ?? 0;
  if (total <= 0) return null;
  const rank = share * total;
  let [lower, below] = [0, 0];
  for (const [bound, count] of buckets) {
    if (count >= rank) {
      if (bound === Infinity) return lower;
      return lower + (bound - lower) * (count > below ? (rank - below) / (count - below) : 1);
    }
    [lower, below] = [bound, count];
  }
  return lower;
}

function labelsOf(text) {
  const pairs = [...text.matchAll(LABEL)].map(([, name, value]) => [
    name,
    value.replace(/\\[\\"n]/g, (escape) => ESCAPES[escape]),
  ]);
  return Object.fromEntries(pairs);
}
