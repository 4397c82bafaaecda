"""What steps cost on a model of a real shape: decode split into its parts, prefill alone and beside
streams, and the peak of memory that prefill takes."""

from __future__ import annotations

import sys
import time

import torch

from llmserve.engines.accelerator import make_current
from llmserve.engines.batching.compute.building import build_computation
from llmserve.engines.batching.compute.headroom import DeviceMemory, LargestStep
from llmserve.engines.batching.compute.model_computation import ModelComputation
from llmserve.engines.batching.compute.sampling.sampler import sample
from llmserve.engines.batching.compute.sizing import CacheOptions
from measure.gpu.contact.subject import Subject, make_subject
from measure.gpu.contact.workload import Affine, device_seconds, median_seconds, plan_of, rows_of
from measure.roofline import copy_bandwidth, step_bytes

BATCHES = (1, 8, 64, 256)
CONTEXTS = (1024, 8192)
PROMPTS = (1, 16, 64, 256, 512, 1024, 2000, 4096)
BLOCK_SIZE = 16


def main(argv: list[str]) -> int:
    """`step_costs PRESET [compiled]`."""
    device = torch.device("cuda:0")
    make_current(device)
    subject = make_subject(argv[0], device)
    begun = time.monotonic()
    computation = build_computation(
        subject.loaded,
        subject.shape,
        CacheOptions(BLOCK_SIZE, max(BATCHES)),
        tokens_per_step=max(PROMPTS),
        is_compiled="compiled" in argv[1:],
    )
    print(
        f"=> {subject.name}: built in {time.monotonic() - begun:.1f} s: {computation.description}"
    )
    print(f"=> {computation.arithmetic}")
    for tensor in (*computation.cache.keys, *computation.cache.values):
        tensor.normal_()
    _decode(subject, computation, copy_bandwidth(device))
    _prefill(subject, computation)
    _largest(subject, computation)
    return 0


def _largest(subject: Subject, computation: ModelComputation) -> None:
    """The step that memory was set aside for, now that the cache has taken the rest."""
    memory = DeviceMemory(subject.loaded.device)
    free = memory.occupancy().free
    largest = LargestStep(
        subject.loaded, subject.layers, computation.runner.forward, computation.cache, max(BATCHES)
    )
    peak = memory.peak_of(lambda: largest.run(computation.tokens_per_step))
    print(
        f"=> the largest step took {peak / 2**20:,.0f} MiB of {free / 2**20:,.0f} MiB that the "
        "cache and the graphs have left"
    )


def _decode(subject: Subject, computation: ModelComputation, bandwidth: float) -> None:
    print("=> rows × context: whole = prepare + device + sampling + rest, ms (limit; share)")
    device, vocab = subject.loaded.device, subject.loaded.model.config.vocab_size
    runner = computation.runner
    for context in CONTEXTS:
        for batch in BATCHES:
            if batch * context > computation.cache.num_tokens - BLOCK_SIZE:
                print(f"=> {batch:4} × {context:5}: does not fit into the cache")
                continue
            plan = plan_of(batch, context, BLOCK_SIZE)
            rows = rows_of(plan, device, vocab)
            repeats = 20 if batch < 256 else 10

            def whole(plan=plan, rows=rows):
                computation.compute(computation.prepare(plan), rows)

            seconds = median_seconds(whole, repeats)
            prepare = median_seconds(lambda plan=plan: runner.prepare(plan), repeats)
            with torch.inference_mode():
                laid_out = runner.prepare(plan)
                forward = device_seconds(
                    lambda laid_out=laid_out: runner.forward(laid_out, computation.cache), repeats
                )
                logits = torch.randn(batch, vocab, device=device)
                sampling = median_seconds(
                    lambda rows=rows, logits=logits: sample(logits, rows), repeats
                )
            num_bytes = step_bytes(
                subject.loaded.model, subject.layers, torch.bfloat16, batch, context
            )
            limit = num_bytes / bandwidth
            rest = seconds - prepare - forward - sampling
            print(
                f"=> {batch:4} × {context:5}: {seconds * 1e3:7.2f} = {prepare * 1e3:5.2f} + "
                f"{forward * 1e3:6.2f} + {sampling * 1e3:5.2f} + {rest * 1e3:5.2f} "
                f"({limit * 1e3:5.2f}; {limit / seconds:.2f}, device {limit / forward:.2f})",
                flush=True,
            )


def _prefill(subject: Subject, computation: ModelComputation) -> None:
    device, vocab = subject.loaded.device, subject.loaded.model.config.vocab_size
    for streams in (0, 8):
        points = []
        for prompt in PROMPTS:
            if prompt == 1 and streams == 0:
                continue
            plan = plan_of(streams, 1024, BLOCK_SIZE, [prompt])
            rows = rows_of(plan, device, vocab)
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            seconds = median_seconds(
                lambda plan=plan, rows=rows: computation.compute(computation.prepare(plan), rows),
                5,
                warm=2,
            )
            peak = torch.cuda.max_memory_allocated() - before
            if prompt > 1:
                points.append((float(prompt), seconds))
            print(
                f"=> {streams} streams + {prompt:5} prompt tokens: {seconds * 1e3:7.2f} ms, peak "
                f"{peak / 2**20:6.0f} MiB over what is there",
                flush=True,
            )
        cost = Affine.through(points)
        print(
            f"=> with {streams} streams: {cost.fixed * 1e3:.2f} ms + "
            f"{cost.per_token * 1e6:.2f} µs per token"
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
