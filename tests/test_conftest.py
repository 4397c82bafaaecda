"""The list of what is slow, in tests/conftest.py, names what there is."""

from __future__ import annotations

from pathlib import Path

import pytest
from shared_servers import FILES, SharedServers

TESTS = Path(__file__).parent


def test_what_is_called_slow_exists(request: pytest.FixtureRequest) -> None:
    conftest = request.config.pluginmanager.get_plugin(str(TESTS / "conftest.py"))
    assert conftest is not None
    assert [name for name in conftest.SLOW if not (TESTS / name).exists()] == []


def test_files_that_share_a_server_exist() -> None:
    files = [file for group in FILES.values() for file in group]
    assert [file for file in files if not (TESTS / file).exists()] == []
    assert len(files) == len(set(files))


def test_files_that_share_a_server_are_one_unit_of_work_and_all_others_are_one_each() -> None:
    scheduler = object.__new__(SharedServers)  # what it asks of a run is of no interest
    ids = [f"tests/{file}::test" for file in ("e2e/test_models.py", "e2e/test_workers.py")]
    assert len({scheduler._split_scope(nodeid) for nodeid in ids}) == 1
    ids += ["tests/e2e/test_road.py::test", "tests/e2e/test_bounds.py::test[::1]"]
    assert len({scheduler._split_scope(nodeid) for nodeid in ids}) == 3
