"""Sessions of client libraries with a server: a script for each, run to its end. (Not a test.)"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from needs import needs, needs_installed

CLIENTS: Final = Path(__file__).parents[1] / "clients"
SESSIONS: Final = CLIENTS / "sessions"
SESSION_SECONDS: Final = 110.0

Report = dict[str, Any]


def main_session(script: str, *arguments: object, **variables: str) -> Report:
    """In the main environment, with these variables of its own."""
    return _report(sys.executable, script, arguments, variables)


def python_session(
    script: str, *arguments: object, cache: Path | None = None, seconds: float = SESSION_SECONDS
) -> Report:
    """In the environment of heavy libraries; `cache` is the folder of what they keep of data."""
    environment = needs_installed(Path(f"{sys.prefix}-clients"))
    kept = {} if cache is None else {"HF_DATASETS_CACHE": str(cache)}
    return _report(str(environment / "bin" / "python"), script, arguments, kept, seconds)


def node_session(script: str, *arguments: object) -> Report:
    """In Node."""
    needs_installed(CLIENTS / "node_modules")
    return _report(needs("node"), script, arguments)


def _report(
    program: str,
    script: str,
    arguments: tuple[object, ...],
    more: Mapping[str, str] = MappingProxyType({}),
    seconds: float = SESSION_SECONDS,
) -> Report:
    """The last line that it prints is its report."""
    command = [program, str(SESSIONS / script), *map(str, arguments)]
    report: Report = json.loads(run_program(command, None, more, seconds).splitlines()[-1])
    return report


def run_program(
    command: Sequence[str],
    folder: Path | None,
    more: Mapping[str, str] = MappingProxyType({}),
    seconds: float = SESSION_SECONDS,
) -> str:
    """What it prints."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=_environment() | more,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-8000:]
    return done.stdout


def _environment() -> dict[str, str]:
    """Without what would send a client elsewhere, to a hub, or to somebody's statistics."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(
            (
                "ANTHROPIC_",
                "OLLAMA_",
                "OPENAI_",
                "LANGCHAIN_",
                "LANGSMITH_",
                "LITELLM_",
                "SSL_CERT_",
            )
        )
    }
    return kept | {
        "ANONYMIZED_TELEMETRY": "False",
        "HF_HUB_OFFLINE": "1",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "NO_PROXY": "127.0.0.1",
    }
