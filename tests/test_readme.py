"""The pages say what is true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from llmserve.api.openai.reference import table
from llmserve.errors import LLMServeError
from llmserve.settings import Settings, settings_table

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
API = ROOT / "llmserve" / "api" / "README.md"
GRPC = ROOT / "llmserve" / "grpc" / "README.md"
BUILT = ROOT / "llmserve" / "README.md"
MODELS = ROOT / "llmserve" / "registry" / "README.md"
RUNNING = ROOT / "scripts" / "deploy" / "README.md"
MEASURED = ROOT / "scripts" / "measure" / "README.md"
EXTENDING = ROOT / "llmserve" / "EXTENDING.md"
PAGES = (README, API, BUILT, EXTENDING, GRPC, MODELS, RUNNING, MEASURED)
OF_BODIES = (
    "max_tokens", "max_completion_tokens", "max_output_tokens", "max_new_tokens", "max_context",
    "max_model_len", "max_tokens_per_doc",
)  # fmt: skip
MOST_BYTES = 14_000
"""Of the first page: whoever wants more follows a link."""


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def words(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def test_the_first_page_is_short_and_leads_to_all_others() -> None:
    assert len(words(README).encode()) <= MOST_BYTES
    linked = set(re.findall(r"\]\(([\w./]+\.md)\)", words(README)))
    assert {str(page.relative_to(ROOT)) for page in PAGES[1:]} <= linked


@pytest.mark.parametrize(
    "page", [*PAGES, ROOT / "README.zh.md"], ids=lambda p: f"{p.parent.name}/{p.name}"
)
def test_links_and_pictures_are_there(page: Path) -> None:
    headings = {
        re.sub(r"[^\w -]", "", title).lower().replace(" ", "-")
        for title in re.findall(r"^#+ (.*)$", words(page), re.MULTILINE)
    }
    for target in re.findall(r"\]\(([^)]+)\)", words(page)):
        file, _, anchor = target.partition("#")
        if target.startswith("http"):
            continue
        if file:
            assert (page.parent / file).exists(), target
        elif anchor:
            assert anchor in headings, target


def test_the_settings_table_is_the_one_that_settings_make() -> None:
    between = re.search(r"<!-- settings:.*?-->\n(.*?)<!-- end", words(RUNNING), re.DOTALL)
    assert between is not None
    assert between[1].strip() == settings_table().strip(), (
        "paste the output of: llmserve config --table"
    )


def test_the_table_of_fields_is_the_one_that_bodies_make() -> None:
    page = words(ROOT / "llmserve" / "api" / "README.md")
    between = re.search(r"<!-- fields:.*?-->\n(.*?)<!-- end", page, re.DOTALL)
    assert between is not None
    assert between[1].strip() == table(), "paste the output of: llmserve fields"


def test_the_speed_is_the_one_that_was_measured_last() -> None:
    shown = re.search(r"<!-- speed: (\S+) -->\n(.*?)\n<!-- end -->", words(MEASURED), re.DOTALL)
    assert shown is not None
    assert shown[2].strip() == (ROOT / shown[1]).read_text(encoding="utf-8").strip()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_setting_and_file_that_it_names_exists(page: Path) -> None:
    for name in re.findall(r"`((?:scripts|models|llmserve|tests)/[\w./]+)`", words(page)):
        assert (ROOT / name).exists() or (ROOT / "llmserve" / name).exists(), name
    for name in re.findall(r"`(max_\w+|\w+_seconds|\w+_bytes)`", words(page)):
        assert name in {*Settings.model_fields, *OF_BODIES}, name


def test_every_error_code_that_it_names_exists() -> None:
    def codes(kind: type[LLMServeError]) -> set[str]:
        return {kind.code}.union(*(codes(child) for child in kind.__subclasses__()))

    table = words(API).partition("## Errors and limits")[2].partition("Once a stream")[0]
    rows = [line.split("|")[2] for line in table.splitlines() if re.match(r"\| \d", line)]
    named = {code for row in rows for code in re.findall(r"`(\w+)`", row)}
    assert named <= codes(LLMServeError)
    assert codes(LLMServeError) - named <= {"configuration_error", "too_many_requests"}
