"""Whether Triton compiles anything after load: random steps, variants counted."""

from __future__ import annotations

import random
import sys

import torch

from llmserve.engines.accelerator import make_current
from llmserve.engines.batching.compute.building import build_computation
from llmserve.engines.batching.compute.cuda import kv_write, paged_decode, paged_kernel
from llmserve.engines.batching.compute.sizing import CacheOptions
from measure.gpu.contact.subject import make_subject
from measure.gpu.contact.workload import plan_of, rows_of

STEPS = 80


def main() -> int:
    """Print the counts: they must not grow."""
    device = torch.device("cuda:0")
    make_current(device)
    subject = make_subject("qwen3-0.6b", device)
    computation = build_computation(subject.loaded, subject.shape, CacheOptions(16, 32, 2**31))
    vocab = subject.loaded.model.config.vocab_size
    before = _count()
    print(f"=> after load: {before}")
    numbers = random.Random(1)
    for _ in range(STEPS):
        decode = numbers.randrange(0, 33)
        prompts = [numbers.randrange(2, 300) for _ in range(numbers.randrange(0, 4))]
        if decode or prompts:
            context = numbers.choice((numbers.randrange(1, 150), 500))
            plan = plan_of(decode, context, 16, prompts)
            computation.compute(computation.prepare(plan), rows_of(plan, device, vocab))
    after = _count()
    print(f"=> after {STEPS} random steps: {after}")
    return 0 if after == before else 1


def _count() -> dict[str, int]:
    kernels = {
        "attention": paged_kernel.paged_kernel,
        "reduction": paged_decode._reduce_kernel,
        "cache write": kv_write._write_kernel,
    }
    return {
        name: sum(len(caches[0]) for caches in kernel.device_caches.values())
        for name, kernel in kernels.items()
    }


if __name__ == "__main__":
    sys.exit(main())
