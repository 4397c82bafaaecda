"""The profiles of scripts/simulate say what was measured, and where."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from measure.simulation.profile import Profile, StepCosts, load_profiles
from pydantic import ValidationError

from llmserve.engines.batching.schedule.plan import Slice, StepPlan
from llmserve.engines.batching.schedule.sequence import Sequence

ROOT = Path(__file__).parents[2]
PROFILES = load_profiles()
PROFILE = PROFILES["llama-3.1-8b-h200"]


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_a_profile_gives_what_was_measured(profile: Profile) -> None:
    costs = StepCosts(profile)
    for rows, context, milliseconds in profile.decode:
        assert costs.seconds(rows, 0, rows * context) == pytest.approx(milliseconds / 1e3, rel=0.1)
    rows, context = profile.beside
    for tokens, milliseconds in profile.prefill:
        seconds = costs.seconds(rows, tokens, rows * context)
        assert seconds == pytest.approx(milliseconds / 1e3)


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_more_work_takes_longer_beyond_what_was_measured_too(profile: Profile) -> None:
    costs = StepCosts(profile)
    rows, tokens = profile.decode[-1][0], profile.prefill[-1][0]
    assert costs.seconds(0, 0, 0) == costs.seconds(1, 0, 0)
    assert costs.seconds(2 * rows, 0, 0) > costs.seconds(rows, 0, 0)
    assert costs.seconds(1, 2 * tokens, 0) > costs.seconds(1, tokens, 0)


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_a_profile_names_files_that_have_its_figures(profile: Profile) -> None:
    files = re.findall(r"scripts/[\w./-]+\.md", profile.source)
    text = "".join((ROOT / file).read_text(encoding="utf-8") for file in files)
    figures = [each[-1] for each in (*profile.decode, *profile.prefill)]
    if profile.max_running == 256:
        assert all(re.search(rf"\b{figure:g}0?\b", text) for figure in figures)
        assert f"{profile.blocks:,} blocks × 16 tokens" in text
    else:
        assert f"{figures[2]:.2f}" in text


def test_a_step_costs_by_rows_prompt_tokens_and_what_is_read() -> None:
    costs = StepCosts(PROFILE)
    rows = [Slice(Sequence([0] * 1025), 1024, 1, is_sampled=True) for _ in range(8)]
    prompt = Slice(Sequence([0] * 300), 0, 256, is_sampled=False)
    assert costs.of(StepPlan((*rows,)), 1) == pytest.approx(0.00812)
    assert costs.of(StepPlan((*rows, prompt)), 1) == pytest.approx(0.0143)
    assert costs.of(StepPlan((*rows,)), 8) == pytest.approx(0.01002, rel=0.02)


def test_a_profile_with_an_unknown_or_impossible_figure_is_refused(tmp_path: Path) -> None:
    good = tmp_path / "profiles.toml"
    body = 'source = "x"\nblocks = 1\nmax_running = 1\nmax_tokens_per_step = 1\n'
    body += "least_prompt_tokens = 1\ndecode = [[1, 1, 1.0]]\nbeside = [0, 0]\n"
    good.write_text(f"[a]\n{body}prefill = [[1, 2.0]]\n", encoding="utf-8")
    assert [*load_profiles(good)] == ["a"]
    for wrong in ("prefill = []\n", "prefill = [[1, 2.0]]\nfast = true\n"):
        good.write_text(f"[a]\n{body}{wrong}", encoding="utf-8")
        with pytest.raises(ValidationError):
            load_profiles(good)
