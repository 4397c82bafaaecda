"""Test files that share a server run in one process, one after another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from xdist.scheduler import LoadFileScheduling

FILES: Final[Mapping[str, tuple[str, ...]]] = {
    "pair": (
        "e2e/test_workers.py", "e2e/test_run_directory.py", "e2e/test_models.py",
        "e2e/test_shutdown.py",
    ),
}  # fmt: skip
"""The files, below `tests`, that use a server, by its fixture's name."""

_SERVERS: Final = {"tests/" + file: server for server, files in FILES.items() for file in files}


class SharedServers(LoadFileScheduling):
    """Like `--dist loadfile`, but these files are one."""

    def _split_scope(self, nodeid: str) -> str:
        file = str(super()._split_scope(nodeid))
        return _SERVERS.get(file, file)
