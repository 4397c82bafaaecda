"""Fixtures and rules for every room's tests: a tiny model, a watch over threads, what is slow."""

from __future__ import annotations

import gc
import os
import shutil
import sys
import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from forked import note_environment
from shared_servers import FILES, SharedServers

if TYPE_CHECKING:
    from server import Server

# Tests start hundreds of interpreters: none of them should compile the package again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# As many test processes as cores run at once. A test that is about threads sets their number.
os.environ["OMP_NUM_THREADS"] = "1"

TESTS: Final = Path(__file__).parent
# Each client of httpx would load all authorities of this machine, in 50 ms. Servers of tests have
# certificates of their own, and this folder has none.
os.environ.pop("SSL_CERT_FILE", None)
os.environ["SSL_CERT_DIR"] = str(TESTS)

SLOW: Final = (
    # Servers and commands are started.
    "cli/test_cli.py", "cli/test_conversation.py", "cli/test_imports.py", "clients/", "deploy/",
    "doctor/", "e2e/", "scripts/test_warm.py", "workers/test_imports.py",
    # Kernels are compiled, or whole models computed, case by case.
    "engines/batching/compute/test_batch.py",
    "engines/batching/compute/test_cuda_build.py",
    "engines/batching/compute/test_cuda_compiled.py",
    "engines/batching/compute/test_cuda_interpreter.py",
    "engines/batching/compute/test_distances.py",
    "engines/batching/compute/test_families_on_meta.py",
    "engines/batching/compute/test_native_attention.py",
    "engines/batching/compute/test_native_decoder.py",
    "engines/batching/test_equality.py", "engines/batching/test_hybrid_equality.py",
    "engines/batching/test_hybrid_prefixes.py",
    "engines/batching/test_soak.py",
    "engines/constraints/test_engines.py",
    "engines/test_prompt_logprobs.py",
    "engines/threaded/test_engine.py",
    "engines/threaded/test_pinned_prefixes.py",
    "engines/threaded/test_warming.py",
    "engines/weights/test_recommended.py",
    # Hours of a box are simulated, or of a scheduler; Ray is imported.
    "engines/batching/schedule/test_random.py", "scripts/test_simulation.py",
    "workers/test_ray_serve.py",
    # Downloads, whole tokenizers, workers that take their time to leave.
    "registry/test_frozen_heap.py", "registry/test_hub.py", "registry/test_memory_of_models.py",
    "scripts/test_demo_documents.py", "scripts/test_demo_embedding.py", "scripts/test_families.py",
    "scripts/test_gpu_contact.py", "scripts/test_headline.py", "scripts/test_make_model.py",
    "text/output/test_families.py", "text/test_chat_template.py",
    "text/test_control_tokens.py", "text/test_detokenizer.py", "text/test_template_environment.py",
    "workers/test_leaving_workers.py",
)  # fmt: skip
"""What is marked `slow` as a whole; single tests of other files have the mark themselves."""
QUICK_SECONDS: Final = 2.0
"""A test that takes longer and is not marked `slow` is named at the end of a quick run."""


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """What test files import, torch above all, lives to the end: no collection looks at it."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what is slow. One of several processes runs it first: at the end all are busy."""
    for item in items:
        file = item.path.relative_to(TESTS).as_posix()
        for servers, files in FILES.items():
            used = [name for name in servers if name in getattr(item, "fixturenames", ())]
            if used and file not in files:
                raise pytest.UsageError(f"{file} uses {used}: add it to shared_servers.FILES")
        if file.startswith(SLOW):
            item.add_marker(pytest.mark.slow)
    if hasattr(config, "workerinput"):
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: item.path not in slow)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    note_environment()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> SharedServers | None:
    """Files that share a server run in one process."""
    return SharedServers(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Name the tests that made a quick run slow."""
    if "not slow" not in config.option.markexpr:
        return
    took = {
        report.nodeid: report.duration
        for report in terminalreporter.getreports("passed")
        if report.when == "call" and report.duration > QUICK_SECONDS
    }
    for name, seconds in sorted(took.items(), key=lambda entry: -entry[1]):
        terminalreporter.write_line(f"{name} took {seconds:.1f} s: mark it slow, or make it quick")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of two layers with random weights and a real tokenizer."""
    # Imported here: it takes seconds, and most tests need no model.
    from make_model import make_model

    folder = tmp_path_factory.mktemp("models") / "tiny"
    make_model("tiny-llama", folder)
    return folder


@pytest.fixture(scope="session")
def running_demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    from server import DEMO, DEMO_EMBEDDING, running_server

    folder = tmp_path_factory.mktemp("demo")
    with running_server(
        folder, DEMO, DEMO_EMBEDDING, is_fork=False, max_waiting=512, log_level="DEBUG"
    ) as running:
        yield running


@pytest.fixture
def demo(running_demo: Server) -> Iterator[Server]:
    """The demo models, as scripts/serve starts them, with room for 200 streams to wait. After a
    test nothing runs and nothing waits."""
    yield running_demo
    running_demo.wait_for_load(0, 0)


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Server]:
    """A model with random weights and no settings; for tests that leave the server as it was.
    `threaded` is the same model by the other engine."""
    from server import running_server

    folder = tmp_path_factory.mktemp("plain")
    threaded = folder / "threaded"
    shutil.copytree(tiny_model, threaded)
    (threaded / "model.toml").write_text('engine = "threaded"\n')
    with running_server(folder, tiny_model, threaded, is_fork=False) as running:
        yield running


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Server]:
    """Like `plain`, with keys, gRPC, a page of elsewhere that may call it, and small bounds."""
    from server import running_server

    with running_server(
        tmp_path_factory.mktemp("guarded"),
        tiny_model,
        api_keys="k1,k2,schlüssel",
        admin_keys="an-admin-key",
        cors_origins="https://ui.example",
        grpc_port=0,
        max_body_bytes=200_000,
        max_waiting=40,
    ) as running:
        yield running


@pytest.fixture(scope="session")
def pair_folder(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """Where the pair was started: its settings file, `models` and `run` lie here."""
    folder = tmp_path_factory.mktemp("pair")
    for name in ("first", "second", "third"):
        shutil.copytree(tiny_model, folder / "models" / name)
    return folder


@pytest.fixture(scope="session")
def running_pair(pair_folder: Path) -> Iterator[Server]:
    from server import running_server

    with running_server(
        pair_folder,
        "first",
        workers=2,
        max_running=8,
        models_on_demand="second",
        run_dir=pair_folder / "run",
        grpc_port=0,
        responses_store=pair_folder / "responses.db",
        jobs_dir=pair_folder / "jobs",
        stream_resume_seconds=20,
    ) as running:
        yield running
        assert running.stop() == 0
        assert "Traceback" not in running.log


@pytest.fixture
def pair(running_pair: Server) -> Server:
    """Two workers that serve `first`, and `second` on demand. A test may end a worker or restart
    both: the next one begins when two serve again."""
    from box import pids, wait_until

    wait_until(lambda: len(pids(running_pair)) == 2, "two workers serve")
    return running_pair


@pytest.fixture
def no_thread_left() -> Iterator[None]:
    """The test leaves no generate thread behind."""
    yield
    deadline = time.monotonic() + 10
    while names := [t.name for t in threading.enumerate() if t.name.startswith("generate-")]:
        assert time.monotonic() < deadline, f"threads left: {names}"
        time.sleep(0.01)
