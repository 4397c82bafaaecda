"""Whether a worker lives is seen from its locked file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from llmserve.storage.owner import Owner


def test_a_worker_lives_until_it_is_closed(tmp_path: Path) -> None:
    first, second = Owner(tmp_path / "o"), Owner(tmp_path / "o")
    assert first.is_alive(first.name)
    assert first.is_alive(second.name)
    second.close()
    assert not first.is_alive(second.name)
    assert not first.is_alive("nobody")
    first.close()
    assert list((tmp_path / "o").iterdir()) == []


def test_a_worker_that_was_killed_lives_no_more_and_its_file_goes(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from llmserve.storage.owner import Owner\n"
        "print(Owner(Path(sys.argv[1])).name, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "o")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        mine = Owner(tmp_path / "o")
        assert mine.is_alive(name)
        process.kill()
        process.wait()
    assert not mine.is_alive(name)
    assert [path.name for path in (tmp_path / "o").iterdir()] == [mine.name]
    mine.close()
