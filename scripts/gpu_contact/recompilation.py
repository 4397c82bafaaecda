"""Whether Triton compiles anything after load: random batches, specialisations counted."""

from __future__ import annotations

import random
import sys

import torch

from gpu_contact.subject import make_subject
from gpu_contact.workload import plan_of, rows_of
from llmserve.engines.batching.compute.building import build_computing
from llmserve.engines.batching.compute.cuda import kv_write, paged_decode, paged_kernel
from llmserve.engines.batching.compute.sizing import CacheWish


def _count() -> dict[str, int]:
    kernels = {
        "paged": paged_kernel.paged_kernel,
        "reduce": paged_decode._reduce_kernel,
        "write": kv_write._write_kernel,
    }
    return {
        name: sum(len(caches[0]) for caches in kernel.device_caches.values())
        for name, kernel in kernels.items()
    }


def main() -> int:
    """Print the counts as they grow."""
    device = torch.device("cuda:0")
    subject = make_subject("qwen3-0.6b", device)
    wish = CacheWish(16, 32, 2**30)
    computing = build_computing(subject.loaded, subject.layers, wish)
    vocab = subject.loaded.model.config.vocab_size
    print("=> after load:", _count())
    numbers = random.Random(1)
    for round_ in range(60):
        decode = numbers.randrange(0, 33)
        prompts = [numbers.randrange(2, 300) for _ in range(numbers.randrange(0, 4))]
        if not decode and not prompts:
            continue
        plan = plan_of(decode, numbers.randrange(1, 150), 16, prompts)
        computing.run(computing.prepare(plan), rows_of(plan, device, vocab))
        if round_ in (0, 1, 5, 20, 59):
            print(f"=> after {round_ + 1} random steps:", _count())
    return 0


if __name__ == "__main__":
    sys.exit(main())
