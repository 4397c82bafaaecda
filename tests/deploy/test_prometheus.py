"""The real Prometheus over two workers: counters, rules, and every expression of the dashboard."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import grpc
import httpx
import pytest
import yaml
from bounded import run
from crowd import Crowd
from needs import needs
from programs import started
from server import Server, free_port

from llmserve.errors import LLMServeError
from llmserve.observability import gpu
from llmserve.observability.buckets import LAG_BUCKETS, LATENCY_BUCKETS, TTFT_BUCKETS
from llmserve.observability.metrics import Metrics
from llmserve.proto.v1 import generation_pb2 as pb
from llmserve.proto.v1.generation_pb2_grpc import GenerationStub

DEPLOY = Path(__file__).parents[2] / "scripts" / "deploy"
REQUESTS = 24
WITHOUT_DATA = ("encoding_", "gpu_", "upstream_", "requests_displaced")
"""Series that this box has not got: there is no GPU in it, its models are all here and generate,
and the work in its background need not give way."""


def load_dashboard_module() -> ModuleType:
    path = DEPLOY / "grafana" / "make_dashboard.py"
    spec = importlib.util.spec_from_file_location("make_dashboard", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["make_dashboard"] = module
    spec.loader.exec_module(module)
    return module


def expressions() -> list[str]:
    dashboard = json.loads((DEPLOY / "grafana" / "dashboards" / "llmserve.json").read_text())
    found = [t["expr"] for panel in dashboard["panels"] for t in panel.get("targets", ())]
    return [
        e.replace("$__rate_interval", "1m").replace("$instance", ".*").replace("$model", ".*")
        for e in found
    ]


class Prometheus:
    """A running Prometheus."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def query(self, expression: str) -> list[dict[str, object]]:
        answer = httpx.get(self.url + "/api/v1/query", params={"query": expression}, timeout=10)
        assert answer.status_code == 200, (expression, answer.text)
        return list(answer.json()["data"]["result"])

    def value(self, expression: str) -> float:
        result = self.query(expression)
        return float(result[0]["value"][1]) if result else 0.0  # type: ignore[index]


@contextlib.contextmanager
def running_prometheus(folder: Path, target: int) -> Iterator[Prometheus]:
    prometheus = needs("prometheus")
    text = (DEPLOY / "prometheus" / "prometheus.yml").read_text()
    assert "llmserve:8000" in text
    text = text.replace("llmserve:8000", f"127.0.0.1:{target}").replace("15s", "1s")
    (folder / "prometheus.yml").write_text(text)
    (folder / "alerts.yml").write_text((DEPLOY / "prometheus" / "alerts.yml").read_text())
    port = free_port()
    command = (
        prometheus,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    )
    log = folder / "prometheus.log"
    running = Prometheus(port)
    with started(command, log):
        deadline = time.monotonic() + 30
        while True:
            assert time.monotonic() < deadline, log.read_text()
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(running.url + "/-/ready").status_code == 200:
                    break
            time.sleep(0.05)
        yield running


@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "rules", "alerts.yml"],
        ["check", "config", "prometheus.yml"],
        ["test", "rules", "alerts.test.yml"],
    ],
)
def test_promtool_finds_nothing_wrong(arguments: list[str]) -> None:
    checked = subprocess.run(
        [needs("promtool"), *arguments],
        cwd=DEPLOY / "prometheus",
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def alerts() -> list[dict[str, object]]:
    rules = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())
    return [rule for group in rules["groups"] for rule in group["rules"]]


def test_every_alert_has_a_test_in_which_it_fires() -> None:
    text = (DEPLOY / "prometheus" / "alerts.test.yml").read_text()
    cases = [c for test in yaml.safe_load(text)["tests"] for c in test["alert_rule_test"]]
    fired = {case["alertname"] for case in cases if case["exp_alerts"]}
    assert fired == {rule["alert"] for rule in alerts()}


def test_alerts_name_error_codes_that_exist() -> None:
    codes = {LLMServeError.code, *(kind.code for kind in descendants(LLMServeError))}
    for rule in alerts():
        for reasons in re.findall(r'reason=~?"([^"]+)"', str(rule["expr"])):
            assert set(reasons.split("|")) <= codes, rule["alert"]


def descendants(kind: type[LLMServeError]) -> list[type[LLMServeError]]:
    found = kind.__subclasses__()
    return [*found, *(deeper for child in found for deeper in descendants(child))]


def test_alerts_say_how_urgent_they_are_and_what_to_do() -> None:
    for rule in alerts():
        assert rule["labels"]["severity"] in ("page", "ticket"), rule["alert"]  # type: ignore[index]
        assert set(rule["annotations"]) == {"summary", "description"}, rule["alert"]  # type: ignore[call-overload]


def test_thresholds_on_quantiles_are_edges_of_buckets() -> None:
    """Between two edges a quantile is a guess, and an alert on it is, too."""
    edges = {"request_queue_time": LATENCY_BUCKETS, "time_to_first_token": TTFT_BUCKETS,
             "event_loop_lag": LAG_BUCKETS}  # fmt: skip
    on_quantiles = [str(r["expr"]) for r in alerts() if "histogram_quantile" in str(r["expr"])]
    assert len(on_quantiles) == len(edges)
    for expression in on_quantiles:
        found = re.search(r"llmserve_(\w+)_seconds_bucket.* > ([\d.]+)", expression)
        assert found is not None
        assert float(found[2]) in edges[found[1]]


def test_the_dashboard_is_what_its_script_makes() -> None:
    module = load_dashboard_module()
    made = json.dumps(module.dashboard(), indent=1) + "\n"
    assert (DEPLOY / "grafana" / "dashboards" / "llmserve.json").read_text() == made


async def make_everything_happen(server: Server) -> int:
    """Requests that end in every way; returns how many were sent to /generate."""
    async with Crowd(server.url, 8, max_tokens=20) as crowd:
        await crowd.until(REQUESTS)
        sent = len(await crowd.stop())
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
        long = {"prompt": "hi", "max_tokens": 400, "ignore_eos": True, "stream": True}
        async with client.stream("POST", "/generate", json=long) as answer:
            await anext(answer.aiter_lines())  # and hangs up: a cancel
        assert (await client.post("/generate", json={"prompt": ""})).status_code == 400
        refused = await client.post("/generate", json={"prompt": "hi", "model": "nobody"})
        assert refused.status_code == 404
        # A stream that an operator ends: a failure.
        async with client.stream("POST", "/generate", json=long) as answer:
            lines = answer.aiter_lines()
            await anext(lines)
            unloaded = await client.post("/admin/unload", json={"timeout": 0}, timeout=60)
            assert unloaded.status_code == 200
            assert "model_unloaded" in "".join([line async for line in lines])
        assert (await client.post("/admin/load", json={})).status_code == 200
        chat = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
        kept = await client.post("/v1/chat/completions", json=chat | {"background": True})
        assert kept.status_code == 202
    async with grpc.aio.insecure_channel(server.grpc_address) as channel:
        await GenerationStub(channel).ListModels(pb.ListModelsRequest())
    return sent + 4


def test_prometheus_sees_what_the_clients_sent_and_the_dashboard_has_data(
    pair: Server, tmp_path: Path
) -> None:
    async def test() -> None:
        needs("prometheus")
        counted = 'sum(llmserve_http_requests_total{route="/generate"})'
        restarts = "sum(llmserve_worker_restarts_total)"
        with running_prometheus(tmp_path, pair.port) as prometheus:
            await asyncio.to_thread(until, lambda: bool(prometheus.query("up == 1")), "up")
            had, restarted = prometheus.value(counted), prometheus.value(restarts)
            sent = had + await make_everything_happen(pair)
            await asyncio.to_thread(until, lambda: prometheus.value(counted) == sent, counted)
            os.kill(await asyncio.to_thread(a_worker, pair), signal.SIGKILL)
            await asyncio.to_thread(
                until, lambda: prometheus.value(restarts) == restarted + 1, "a restart"
            )
            assert prometheus.value(counted) == sent, "a dead worker's counts stay"
            for expression in expressions():
                if any(name in expression for name in WITHOUT_DATA):
                    continue
                await asyncio.to_thread(
                    until, lambda e=expression: bool(prometheus.query(e)), expression
                )

    run(test, seconds=110)


def a_worker(server: Server) -> int:
    status = httpx.get(server.url + "/admin/status", timeout=20).json()
    return int(status["workers"][0]["pid"])


def test_every_series_of_rules_and_dashboard_exists() -> None:
    families = {family.name for family in Metrics()._registry.collect()}
    families |= set(re.findall(r"llmserve_gpu_\w+", Path(gpu.__file__).read_text()))
    texts = [*expressions(), (DEPLOY / "prometheus" / "alerts.yml").read_text()]
    named = {name for text in texts for name in re.findall(r"llmserve_\w+", text)}
    suffixes = r"(_total|_bucket|_sum|_count)$"
    unknown = {n for n in named if n not in families and re.sub(suffixes, "", n) not in families}
    assert unknown == set()


def until(holds, what: str) -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.1)
