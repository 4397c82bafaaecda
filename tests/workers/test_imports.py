"""What the processes import: the supervisor no web framework, no worker torch before its port is
open."""

from __future__ import annotations

from imports import imported_by, tops
from uvicorn.config import STARTUP_FAILURE as UVICORNS

from llmserve.workers.signals import STARTUP_FAILURE

MODELS = {"accelerate", "huggingface_hub", "numpy", "safetensors", "tokenizers", "torch",
          "transformers"}  # fmt: skip
WEB = {"fastapi", "sse_starlette", "starlette", "uvicorn", "uvloop", "websockets"}
COMMAND_LINE = {"rich", "typer"}
MOST_OF_SUPERVISOR = 500
"""477 today."""
MOST_OF_WORKER = 1040
"""990 today, with the application."""


def test_the_supervisor_knows_neither_models_nor_the_web() -> None:
    imported = imported_by(
        "import llmserve.cli.local, llmserve.registry.catalog\n"
        "import llmserve.workers.serve, llmserve.workers.supervisor"
    )
    assert not tops(imported) & (MODELS | WEB | {"rich"})
    assert len(imported) <= MOST_OF_SUPERVISOR


def test_a_worker_has_its_application_before_torch() -> None:
    imported = imported_by("import llmserve.workers.worker as w; w.create_app()")
    assert not tops(imported) & (MODELS | COMMAND_LINE)
    assert len(imported) <= MOST_OF_WORKER


def test_nothing_heavy_is_left_for_the_event_loop_to_import() -> None:
    later = ["batching.engine", "threaded"]
    imported = imported_by(
        "from llmserve.engines.heavy import import_engines\n"
        "stages = []\n"
        "import_engines(stages.append)\n"
        "assert {s.stage for s in stages} == {'imports'} and stages[0].fraction == 0\n"
        "import gc; assert gc.isenabled()"
    )
    assert {f"llmserve.engines.{name}" for name in later} <= imported


def test_the_exit_code_of_a_worker_that_cannot_start_is_uvicorns() -> None:
    assert STARTUP_FAILURE == UVICORNS
