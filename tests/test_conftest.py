"""The list of what is slow, in tests/conftest.py, names what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from shared_servers import FILES

TESTS = Path(__file__).parent


def test_what_is_called_slow_exists(request: pytest.FixtureRequest) -> None:
    conftest = request.config.pluginmanager.get_plugin(str(TESTS / "conftest.py"))
    assert conftest is not None
    assert [name for name in conftest.SLOW if not (TESTS / name).exists()] == []


@pytest.mark.parametrize("server", FILES)
def test_files_that_use_a_shared_server_are_those_that_run_together(server: str) -> None:
    users = {
        path.relative_to(TESTS).as_posix()
        for path in TESTS.rglob("test_*.py")
        if re.search(rf"[(,]\s*{server}: ", path.read_text())
    }
    assert users == set(FILES[server])
