"""What first contact does, in its order."""

from __future__ import annotations

from typing import Final

from measure.gpu.contact.step import Step

EQUALITY_SHARES: Final = 4
KERNEL_TESTS: Final = "tests/engines/batching/compute/test_cuda_kernels.py"
GRAPH_TESTS: Final = "tests/engines/batching/compute/test_cuda_graphs.py"
PROMPT_GRAPH_TESTS: Final = "tests/engines/batching/compute/test_cuda_prompt_graphs.py"
ADAPTER_TESTS: Final = "tests/engines/batching/compute/test_cuda_low_rank.py"


def all_steps() -> list[Step]:
    """The machine first; then what is right or wrong, side by side; then what takes time, alone."""
    return [
        Step("machine", _module("machine"), 60, is_alone=True),
        _tests("kernels-bfloat16", KERNEL_TESTS, "bfloat16"),
        _tests("kernels-others", KERNEL_TESTS, "not bfloat16"),
        *(_equality(share) for share in range(EQUALITY_SHARES)),
        Step("failures", _module("failures"), 90),
        Step("server", _module("server"), 120),
        _tests("graphs", GRAPH_TESTS, ""),
        _tests("prompt-graphs", PROMPT_GRAPH_TESTS, ""),
        Step("capture-bfloat16", _module("capture"), 120),
        Step("restricted", _module("restricted"), 90),
        Step("adapters", _module("adapters"), 120),
        _tests("adapter-kernels", ADAPTER_TESTS, ""),
        Step("recompilation", _module("recompilation"), 90),
        Step("turnover", _module("turnover"), 90, is_alone=True),  # it measures free memory
        _costs("qwen3-0.6b"),
        _profile("qwen3-0.6b"),
        Step("sampling", _module("sampling_costs"), 40, is_alone=True),
        Step("constraints", _module("constraint_costs"), 90, is_alone=True),
        Step("splits", _module("split_costs"), 40, is_alone=True),
        _costs("llama-3.1-8b"),
        _profile("llama-3.1-8b"),
        _costs("qwen3-0.6b", "compiled"),
    ]


def _module(name: str, *arguments: str) -> tuple[str, ...]:
    return ("-m", f"measure.gpu.contact.{name}", *arguments)


def _tests(name: str, file: str, which: str) -> Step:
    options = ("-q", "-p", "no:cacheprovider", "-m", "gpu", "-k", which)
    return Step(name, ("-m", "pytest", *options, file), 120)


def _equality(share: int) -> Step:
    return Step(
        f"equality-{share}",
        _module("equality", f"{share}/{EQUALITY_SHARES}"),
        120,
    )


def _costs(preset: str, *options: str) -> Step:
    name = "-".join(("costs", preset, *options))
    return Step(name, _module("step_costs", preset, *options), 100, is_alone=True)


def _profile(preset: str) -> Step:
    arguments = _module("replay_profile", preset, "8", "1024")
    return Step(f"profile-{preset}", arguments, 50, is_alone=True)
