"""The README says what is true."""

from __future__ import annotations

import re
from pathlib import Path

from llmserve.errors import LLMServeError
from llmserve.settings import Settings, settings_table

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_settings_table_is_the_one_that_settings_make() -> None:
    between = re.search(r"<!-- settings:.*?-->\n(.*?)<!-- end", README, re.DOTALL)
    assert between is not None
    assert between[1].strip() == settings_table().strip(), (
        "paste the output of: python -c 'from llmserve.settings import *; print(settings_table())'"
    )


def test_its_speed_is_the_one_that_was_measured_last() -> None:
    shown = re.search(r"<!-- speed: (\S+) -->\n(.*?)\n<!-- end -->", README, re.DOTALL)
    assert shown is not None
    assert shown[2].strip() == (ROOT / shown[1]).read_text(encoding="utf-8").strip()


def test_every_setting_and_file_that_it_names_exists() -> None:
    for name in re.findall(r"`((?:scripts|models|llmserve|tests)/[\w./]+)`", README):
        assert (ROOT / name).exists() or (ROOT / "llmserve" / name).exists(), name
    for name in re.findall(r"`(max_\w+|\w+_seconds|\w+_bytes)`", README):
        assert name in {*Settings.model_fields, "max_tokens", "max_completion_tokens"}, name


def test_every_error_code_that_it_names_exists() -> None:
    def codes(kind: type[LLMServeError]) -> set[str]:
        return {kind.code}.union(*(codes(child) for child in kind.__subclasses__()))

    table = README.partition("## Errors and limits")[2].partition("Once a stream")[0]
    rows = [line.split("|")[2] for line in table.splitlines() if re.match(r"\| \d", line)]
    named = {code for row in rows for code in re.findall(r"`(\w+)`", row)}
    assert named <= codes(LLMServeError) | {"not_found", "method_not_allowed"}
    assert codes(LLMServeError) - named <= {"configuration_error", "too_many_requests"}
