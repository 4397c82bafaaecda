import assert from "node:assert/strict";
import test from "node:test";

import { MODULES } from "./modules.mjs";

const { Metrics, quantile, since } = await import(new URL("status/metrics.js", MODULES));
const { History, READINGS } = await import(new URL("status/history.js", MODULES));
const { merged } = await import(new URL("status/models.js", MODULES));

const TEXT = `# HELP llmserve_num_requests_running Requests holding a slot.
# TYPE llmserve_num_requests_running gauge
llmserve_num_requests_running{model="a, \\"b\\"",x="y\\\\n"} 2.0
llmserve_num_requests_running{model="c"} 1.5e+00
h_bucket{le="0.1",model="a"} 1
h_bucket{le="0.1",model="b"} 1
h_bucket{le="0.5",model="a"} 3
h_bucket{le="0.5",model="b"} 1
h_bucket{le="+Inf",model="a"} 4
h_bucket{le="+Inf",model="b"} 1
plain 7
`;

test("series, their labels and sums are read", () => {
  const metrics = new Metrics(TEXT);
  assert.deepEqual(metrics.samples("llmserve_num_requests_running")[0], {
    labels: { model: 'a, "b"', x: "y\\n" },
    value: 2,
  });
  assert.equal(metrics.sum("llmserve_num_requests_running"), 3.5);
  assert.equal(metrics.most("llmserve_num_requests_running"), 2);
  assert.deepEqual(
    [metrics.sum("plain"), metrics.sum("nothing"), metrics.most("nothing")],
    [7, null, null],
  );
});

test("quantiles are those of Prometheus", () => {
  const buckets = new Metrics(TEXT).histogram("h");
  assert.deepEqual(
    [...buckets],
    [
      [0.1, 2],
      [0.5, 4],
      [Infinity, 5],
    ],
  );
  assert.equal(quantile(buckets, 0.2), 0.05);
  assert.equal(quantile(buckets, 0.6).toFixed(3), "0.300");
  assert.equal(quantile(buckets, 0.99), 0.5);
  assert.equal(quantile(new Map(), 0.5), null);
  assert.deepEqual(
    [...since(buckets, new Map([[0.1, 1]]))],
    [
      [0.1, 1],
      [0.5, 4],
      [Infinity, 5],
    ],
  );
});

function reading(tokens, quick, slow) {
  return new Metrics(`llmserve_generation_tokens_total{model="a"} ${tokens}
llmserve_time_to_first_token_seconds_bucket{le="1.0"} ${quick}
llmserve_time_to_first_token_seconds_bucket{le="2.0"} ${quick + slow}
llmserve_time_to_first_token_seconds_bucket{le="+Inf"} ${quick + slow}
`);
}

test("rates are of the last reading, and percentiles of the last minute", () => {
  const history = new History();
  history.add(reading(100, 0, 50), 0);
  assert.deepEqual([history.points[0].rate, history.points[0].ttft50], [0, null]);
  history.add(reading(300, 10, 50), 2);
  assert.deepEqual([history.points[1].rate, history.points[1].ttft50], [100, 0.5]);
  for (let at = 4; at <= 80; at += 2) history.add(reading(300, 10, 50), at);
  assert.equal(history.points.at(-1).ttft50, null, "nothing came for a minute");
});

test("tokens that were encoded have a rate of their own", () => {
  const history = new History();
  for (const [at, tokens] of [[0, 10], [2, 50], [4, 20]]) {
    const text = `llmserve_encoding_tokens_total{model="e"} ${tokens}\n`;
    history.add(new Metrics(text), at);
  }
  assert.deepEqual(
    history.points.map(({ encoded }) => encoded),
    [0, 20, 0],
  );
});

test("a server that was started anew begins at zero", () => {
  const history = new History();
  history.add(reading(100, 9, 0), 0);
  history.add(reading(5, 1, 0), 2);
  assert.deepEqual([history.points[1].rate, history.points[1].ttft50], [0, null]);
});

test("what is kept has a bound", () => {
  const history = new History();
  for (let at = 0; at < 1000; at += 1) history.add(reading(at, 0, 0), at);
  assert.deepEqual([history.points.length, history.readings.length], [READINGS, READINGS]);
});

test("a model counts as ready when it is in every worker", () => {
  const model = (status, running, more) => ({
    name: "m",
    status,
    running,
    waiting: 1,
    memory_bytes: 10,
    ...more,
  });
  const workers = [
    { models: [model("ready", 2, { engine: "batching" })] },
    { models: [model("loading", 0, { stage: "weights", fraction: 0.5 })] },
  ];
  assert.deepEqual(merged(workers), [
    {
      ...model("loading", 2),
      waiting: 2,
      memory_bytes: 20,
      engine: "batching",
      stage: "weights",
      fraction: 0.5,
    },
  ]);
});
