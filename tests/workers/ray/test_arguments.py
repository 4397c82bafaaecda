"""Arguments of the Ray application: those that are wrong first."""

from __future__ import annotations

from typing import Any

import pytest

from llmserve.errors import ConfigurationError
from llmserve.workers.ray.arguments import Arguments


@pytest.mark.parametrize(
    ("given", "name"),
    [({"replicas": 2}, "replicas"), ({"num_replicas": 0}, "num_replicas"),
     ({"num_gpus": 0.5}, "num_gpus")],
)  # fmt: skip
def test_an_argument_that_is_wrong_is_named(given: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"argument '{name}'"):
        Arguments.of(given)


def test_arguments_of_the_command_line_are_words() -> None:
    assert Arguments.of({"num_replicas": "2", "num_cpus": "0.5"}) == Arguments(
        num_replicas=2, num_cpus=0.5
    )
