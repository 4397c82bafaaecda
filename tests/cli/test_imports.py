"""What a command imports before it is known what it shall do: little, or `--help` takes a second.

Times differ from machine to machine; modules do not.
"""

from __future__ import annotations

import importlib

import pytest
import typer
from imports import imported_by, tops
from typer.testing import CliRunner

from llmserve.cli.main import COMMANDS, app

HEAVY = {
    "accelerate", "fastapi", "huggingface_hub", "httpx", "httpx2", "jinja2", "loguru", "numpy",
    "prometheus_client", "safetensors", "sse_starlette", "starlette", "tokenizers", "torch",
    "transformers", "uvicorn", "uvloop", "websockets",
}  # fmt: skip
MOST_MODULES = 480
"""430 today, 320 of which are those of typer, rich and pydantic."""

RUN = "import runpy; sys.argv[0] = 'llmserve'; runpy.run_module('llmserve', run_name='__main__')"


def of_module(name: str) -> object:
    return getattr(importlib.import_module(f"llmserve.cli.{COMMANDS[name][0]}"), name)


GROUPS = {name: of_module(name) for name in COMMANDS if isinstance(of_module(name), typer.Typer)}
PATHS = [
    (),
    *((name,) for name in COMMANDS),
    *((name, c.name or c.callback.__name__) for name, group in GROUPS.items()
      for c in group.registered_commands),
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS, ids=lambda path: " ".join(path) or "llmserve")
def test_help_imports_nothing_heavy(path: tuple[str, ...]) -> None:
    imported = imported_by(RUN, [*path, "--help"])
    assert not tops(imported) & HEAVY
    assert len(imported) <= MOST_MODULES


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_says_of_itself_what_the_list_says(name: str) -> None:
    command = of_module(name)
    told = command.info.help if isinstance(command, typer.Typer) else command.__doc__
    assert told.partition("\n\n")[0] == COMMANDS[name][1]


@pytest.mark.parametrize("name", GROUPS)
def test_a_group_within_has_its_commands_and_no_options_of_its_own(name: str) -> None:
    shown = CliRunner().invoke(app, [name, "--help"]).stdout
    assert all(path[1] in shown for path in PATHS if path[:1] == (name,) and len(path) == 2)
    assert shown.count("--") == 1, shown
