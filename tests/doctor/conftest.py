"""The doctor looks at a fake llmserve, straight or through nginx."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest
from doctor.fake_llmserve import Behaviour, serving

from llmserve.doctor import Finding, Report, Target, examine

EXAMINATION_SECONDS = 100.0
Examine = Callable[..., dict[str, Finding]]


@pytest.fixture
def behaviour() -> Behaviour:
    """What the fake does; bend it before asking."""
    return Behaviour()


@pytest.fixture
def fake(behaviour: Behaviour) -> Iterator[int]:
    """The fake's port."""
    with serving(behaviour) as port:
        yield port


def report(
    url: str, *, announce: Callable[[str], None] = lambda name: None, **options: object
) -> Report:
    """Examine a server, but not for ever."""

    async def bounded() -> Report:
        async with asyncio.timeout(EXAMINATION_SECONDS):
            return await examine(Target.parse(url, **({"idle_seconds": 0} | options)), announce)

    return asyncio.run(bounded())


@pytest.fixture
def examined() -> Examine:
    """Findings by name."""

    def ask(port: int, *, scheme: str = "http", host: str = "127.0.0.1", **options: object):
        found = report(f"{scheme}://{host}:{port}", **options).findings
        assert len({finding.name for finding in found}) == len(found)
        return {finding.name: finding for finding in found}

    return ask
