"""Which of the tiny models decode in CUDA graphs in bfloat16, and by what they are computed."""

from __future__ import annotations

import sys
import traceback

import torch
from random_models.presets import PRESETS

from llmserve.engines.accelerator import make_current
from llmserve.engines.batching.compute.building import build_computation
from llmserve.engines.batching.compute.sizing import CacheOptions
from llmserve.engines.batching.compute.support import Unsupported, cache_shape
from measure.gpu.contact.subject import make_subject


def main() -> int:
    """Every tiny preset."""
    device = torch.device("cuda:0")
    make_current(device)
    failed = 0
    for name in (name for name, preset in PRESETS.items() if preset.is_tiny):
        try:
            subject = make_subject(name, device, max_context=1024)
            shape = cache_shape(subject.loaded)
            wish = CacheOptions(16, 16, 1024 * 16 * shape.bytes_per_token(torch.bfloat16))
            computation = build_computation(subject.loaded, shape, wish)
            told = computation.description
            computation.close()
        except Unsupported as reason:
            told = f"not for batching: {reason}"
        except Exception as error:
            traceback.print_exc()
            failed, told = failed + 1, f"raised {type(error).__name__}: {error}"
        print(f"=> {name}: {told}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
