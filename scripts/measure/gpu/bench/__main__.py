"""`scripts/bench-gpu`: decode as a share of the memory's limit, as a Markdown table."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from typing import Final

import torch

MODELS: Final = ("qwen3-0.6b", "llama-3.1-8b")
MODES: Final = ("eager", "graphs", "graphs + compile")
BATCHES: Final = (1, 8, 64)
HEADER: Final = """\
| model | batch | mode | ms a step | tokens/s | limit, ms | share of limit | kernels alone |
|---|---|---|---|---|---|---|---|"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line: 0 measured, 2 there is no GPU."""
    parser = argparse.ArgumentParser(
        prog="bench-gpu",
        description="Decode through the batching engine's runner, against the time that the "
        "device's memory needs for the step's weights, keys and values at its copy bandwidth.",
    )
    parser.add_argument("--quick", action="store_true", help=f"only {MODELS[0]}, few steps")
    parser.add_argument("--models", nargs="+", default=list(MODELS), help="presets of make_model")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--context", type=int, default=1024, help="tokens of each row")
    parser.add_argument("--steps", type=int, default=100, help="timed steps of each line")
    args = parser.parse_args(argv)
    if not torch.cuda.is_available():
        print(
            "bench-gpu: this machine has no CUDA device, or torch was built without CUDA "
            f"(torch {torch.__version__}); run it on one that has",
            file=sys.stderr,
        )
        return 2
    models, steps = (MODELS[:1], 20) if args.quick else (args.models, args.steps)
    started = time.monotonic()

    def say(what: str) -> None:
        print(f"[{time.monotonic() - started:5.1f} s] {what}", file=sys.stderr, flush=True)

    measure(models, sorted(set(args.modes), key=MODES.index), args.context, steps, say)
    return 0


def measure(
    models: Sequence[str],
    modes: Sequence[str],
    context: int,
    steps: int,
    say: Callable[[str], None],
) -> None:
    """Print the table, line by line. Modes are in the order of `MODES`: compiling is for good."""
    # Triton and the model code are imported only where they can run.
    from measure.gpu.bench.decode import (
        DTYPE,
        layer_shapes,
        make_cache,
        make_forward,
        random_model,
        time_decode,
    )
    from measure.roofline import copy_bandwidth, step_bytes

    device = torch.device("cuda")
    bandwidth = copy_bandwidth(device)
    print(
        f"{torch.cuda.get_device_name(device)}, copies at {bandwidth / 1e12:.2f} TB/s; torch "
        f"{torch.__version__}; {context:,} tokens of context, bfloat16, greedy.\n\n{HEADER}"
    )
    for name in models:
        say(f"{name}: making random weights")
        model = random_model(name, device)
        cache = make_cache(model, max(BATCHES), context, device)
        for mode in modes:
            say(f"{name}: {mode}")
            with make_forward(mode, model, cache, BATCHES, context) as forward:
                for batch in BATCHES:
                    timing = time_decode(forward, cache, batch, context, steps)
                    num_bytes = step_bytes(model, layer_shapes(model), DTYPE, batch, context)
                    limit = num_bytes / bandwidth
                    print(
                        f"| {name} | {batch} | {mode} | {timing.step_seconds * 1000:.2f} "
                        f"| {batch / timing.step_seconds:,.0f} | {limit * 1000:.2f} "
                        f"| {limit / timing.step_seconds:.2f} "
                        f"| {limit / timing.kernel_seconds:.2f} |",
                        flush=True,
                    )
        del model, cache, forward
        torch.cuda.empty_cache()


if __name__ == "__main__":
    sys.exit(main())
