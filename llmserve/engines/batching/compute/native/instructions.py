"""The instruction sets that the kernels are written for, and which of them this processor has."""

from __future__ import annotations

import functools
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Final

AUTO: Final = "auto"
"""The best that the processor has."""


@dataclass(frozen=True, slots=True)
class InstructionSet:
    """What the kernels can be compiled for.

    Attributes:
        name: as the setting has it.
        shown: as descriptions have it.
        machine: the architecture, as `platform.machine` calls it.
        flags: what Linux calls the processor's abilities that it needs.
        options: for the compiler.
    """

    name: str
    shown: str
    machine: str
    flags: frozenset[str]
    options: tuple[str, ...]


_AVX512: Final = ("avx512f", "avx512bw", "avx512vl", "avx512dq")
_FOR_AVX512: Final = (*(f"-m{flag}" for flag in _AVX512), "-mfma", "-mbmi2")

INSTRUCTION_SETS: Final = (
    # AMX is compiled in and chosen at run time: a processor may have it, and its system refuse it.
    InstructionSet(
        "avx512-bf16", "AVX-512 with bfloat16", "x86_64", frozenset({*_AVX512, "avx512_bf16"}),
        (*_FOR_AVX512, "-mavx512bf16", "-mamx-tile", "-mamx-bf16"),
    ),
    InstructionSet("avx512", "AVX-512", "x86_64", frozenset(_AVX512), _FOR_AVX512),
    InstructionSet(
        "avx2", "AVX2", "x86_64", frozenset({"avx2", "fma", "bmi2"}), ("-mavx2", "-mfma", "-mbmi2")
    ),
    InstructionSet(
        "neon-bf16", "NEON with bfloat16", "aarch64", frozenset({"asimd", "bf16"}),
        ("-march=armv8.2-a+bf16",),
    ),
    InstructionSet("neon", "NEON", "aarch64", frozenset({"asimd"}), ("-march=armv8-a",)),
)  # fmt: skip
"""The best of each architecture first."""

NAMES: Final = tuple(each.name for each in INSTRUCTION_SETS)


def instruction_sets() -> tuple[InstructionSet, ...]:
    """Those that this processor has, the best one first."""
    if platform.system() != "Linux":
        return ()
    machine, flags = platform.machine(), _flags()
    return tuple(
        each for each in INSTRUCTION_SETS if each.machine == machine and each.flags <= flags
    )


def chosen(name: str = AUTO) -> InstructionSet | str:
    """The one of this name, or the best; or why there is none."""
    here = instruction_sets()
    if name == AUTO:
        return here[0] if here else _none()
    found = next((each for each in here if each.name == name), None)
    if found is not None:
        return found
    has = ", ".join(each.name for each in here) or "none that the native kernels know"
    return f"the processor does not have {name}; it has {has}"


def _none() -> str:
    system, machine = platform.system(), platform.machine()
    architectures = {each.machine for each in INSTRUCTION_SETS}
    if system != "Linux" or machine not in architectures:
        known, this = " and ".join(sorted(architectures)), machine or "an unknown processor"
        return f"the native kernels are for Linux on {known}, not {system} on {this}"
    least = next(each for each in reversed(INSTRUCTION_SETS) if each.machine == machine)
    return f"the processor lacks {', '.join(sorted(least.flags - _flags()))}"


@functools.cache
def _flags() -> frozenset[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    names = ("flags", "Features")  # on x86, and on Arm
    flags = next((line for line in lines if line.startswith(names)), "")
    return frozenset(flags.partition(":")[2].split())
