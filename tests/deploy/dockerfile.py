"""The Dockerfile as Docker reads it: no engine is at hand."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

DOCKERFILE = Path(__file__).parents[2] / "scripts" / "deploy" / "Dockerfile"


def instructions() -> list[tuple[str, str]]:
    """Name and arguments of each, in order; comments left out, lines joined."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in joined.splitlines())
            if name]  # fmt: skip


def environment() -> dict[str, str]:
    """What the image sets."""
    words = (word for name, rest in instructions() if name == "ENV" for word in shlex.split(rest))
    return {name: value for name, _, value in (word.partition("=") for word in words)}


def command(name: str) -> list[str]:
    """The program and its arguments, of ENTRYPOINT or HEALTHCHECK."""
    (rest,) = [rest for found, rest in instructions() if found == name]
    words = json.loads(rest[rest.index("[") :])
    return [str(word) for word in words]
