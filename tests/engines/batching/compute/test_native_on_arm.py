"""The kernels of processors that this machine emulates, compared with plain loops, and with what it
computes itself."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

import native_models
import pytest
from needs import needs

from llmserve.engines.batching.compute.native.build import OPTIONS, SOURCES
from llmserve.engines.batching.compute.native.instructions import INSTRUCTION_SETS, chosen

CHECK = Path(native_models.__file__).with_name("kernel_check.cpp")
COMPILER, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"
ARM = [each.name for each in INSTRUCTION_SETS if each.machine == "aarch64"]
ROUNDING = 2**-8
"""Half a unit in the last of a bfloat16's eight digits."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(platform.machine() == "aarch64", reason="the other tests run them"),
]


def built(compiler: str, options: tuple[str, ...], folder: Path) -> str:
    program = folder / "check"
    flags = [option for option in OPTIONS if option not in ("-shared", "-fPIC", "-O3")]
    sources = [*sorted(SOURCES.glob("*.cpp")), CHECK]
    command = [compiler, *flags, "-O1", *options, "-I", SOURCES, *sources, "-o", program]
    subprocess.run(command, check=True, timeout=300)
    return str(program)


def figures(command: list[str]) -> list[tuple[str, float]]:
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    return [(name, float(x)) for name, x in (line.split() for line in done.stdout.splitlines())]


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, float]]:
    """What this processor says, whose kernels other tests compare with torch."""
    instructions = chosen()
    if isinstance(instructions, str):
        pytest.skip(instructions)
    folder = tmp_path_factory.mktemp("ours")
    return figures([built(needs("g++"), instructions.options, folder)])


@pytest.mark.parametrize("name", ARM)
def test_they_say_what_plain_loops_and_this_processor_say(
    name: str, ours: list[tuple[str, float]], tmp_path: Path
) -> None:
    emulator, compiler = needs(EMULATOR), needs(COMPILER)
    options = next(each.options for each in INSTRUCTION_SETS if each.name == name)
    root = "/usr/aarch64-linux-gnu"
    program = built(compiler, options, tmp_path)
    told = figures([emulator, "-cpu", "max", "-L", root, program])
    assert [each for each, _ in told] == [each for each, _ in ours]
    errors = [(each, x) for each, x in told if not each.startswith("logit")]
    assert {each for each, _ in errors} >= {"linear", "decode", "prefill", "sampling"}
    assert all(x < ROUNDING for _, x in errors), errors
    logits = [(x, y) for (each, x), (_, y) in zip(told, ours, strict=True) if "logit" in each]
    assert all(x == pytest.approx(y, abs=0.05) for x, y in logits)
    assert len({x for x, _ in logits}) > 40
