"""Which instructions are chosen, and why there are none; what the processor has is told last."""

from __future__ import annotations

import platform

import pytest

from llmserve.engines.batching.compute.native import instructions
from llmserve.engines.batching.compute.native.instructions import (
    INSTRUCTION_SETS,
    chosen,
    instruction_sets,
)
from llmserve.settings import Settings

XEON = {"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx2", "fma", "bmi2"}
"""Of Skylake's kind: no bfloat16."""


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch) -> Processor:
    return Processor(monkeypatch)


class Processor:
    """In place of the one that this runs on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def is_of(self, machine: str, flags: set[str], system: str = "Linux") -> None:
        self._monkeypatch.setattr(platform, "system", lambda: system)
        self._monkeypatch.setattr(platform, "machine", lambda: machine)
        self._monkeypatch.setattr(instructions, "_flags", lambda: frozenset(flags))


def test_other_systems_and_architectures_are_named(processor: Processor) -> None:
    processor.is_of("x86_64", XEON, system="Darwin")
    assert "Darwin on x86_64" in str(chosen())
    processor.is_of("riscv64", set())
    assert "Linux on riscv64" in str(chosen())


def test_what_a_processor_lacks_for_the_least_of_them_is_named(processor: Processor) -> None:
    processor.is_of("x86_64", {"avx2", "sse4_2"})
    assert chosen() == "the processor lacks bmi2, fma"


def test_one_that_it_lacks_cannot_be_had_by_name(processor: Processor) -> None:
    processor.is_of("x86_64", XEON)
    found = chosen("avx512-bf16")
    assert found == "the processor does not have avx512-bf16; it has avx512, avx2"
    processor.is_of("x86_64", set())
    assert "it has none that" in str(chosen("neon"))


@pytest.mark.parametrize(
    ("machine", "flags", "expected"),
    [
        ("x86_64", XEON | {"avx512_bf16"}, ["avx512-bf16", "avx512", "avx2"]),
        ("x86_64", XEON, ["avx512", "avx2"]),
        ("x86_64", {"avx2", "fma", "bmi2"}, ["avx2"]),
        ("aarch64", {"asimd", "bf16"}, ["neon-bf16", "neon"]),
        ("aarch64", {"asimd"}, ["neon"]),
    ],
)
def test_the_best_comes_first(
    processor: Processor, machine: str, flags: set[str], expected: list[str]
) -> None:
    processor.is_of(machine, flags)
    assert [each.name for each in instruction_sets()] == expected
    best = chosen()
    assert not isinstance(best, str)
    assert best.name == expected[0]


def test_the_setting_takes_each_of_them() -> None:
    for each in INSTRUCTION_SETS:
        assert Settings(cpu_instructions=each.name).cpu_instructions == each.name
