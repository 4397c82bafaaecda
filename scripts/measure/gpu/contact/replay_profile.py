"""One replay of a decode graph, kernel by kernel."""

from __future__ import annotations

import sys
from collections import defaultdict

import torch
from torch.profiler import ProfilerActivity, profile

from llmserve.engines.batching.compute.building import build_computation
from llmserve.engines.batching.compute.sizing import CacheOptions
from measure.gpu.contact.subject import make_subject
from measure.gpu.contact.workload import plan_of

TOP = 20


def main(argv: list[str]) -> int:
    """`replay_profile PRESET ROWS CONTEXT`."""
    preset, rows, context = argv[0], int(argv[1]), int(argv[2])
    device = torch.device("cuda:0")
    subject = make_subject(preset, device)
    wish = CacheOptions(16, rows, 2 * rows * context * subject.cache_bytes_per_token)
    computation = build_computation(subject.loaded, subject.shape, wish)
    runner = computation.runner
    with torch.inference_mode():
        batch = runner.prepare(plan_of(rows, context, 16))
        for _ in range(3):
            runner.forward(batch, computation.cache)
        torch.cuda.synchronize()
        with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as profiler:
            runner.forward(batch, computation.cache)
            torch.cuda.synchronize()
    kernels = [
        event
        for event in profiler.events()
        if event.device_type == torch.autograd.DeviceType.CUDA and event.time_range.elapsed_us() > 0
    ]
    kernels.sort(key=lambda event: event.time_range.start)
    if not kernels:
        print("=> the profiler saw no kernels")
        return 1
    span = kernels[-1].time_range.end - kernels[0].time_range.start
    busy = sum(event.time_range.elapsed_us() for event in kernels)
    print(
        f"=> {preset}, {rows} × {context}: {len(kernels)} kernels, {span / 1e3:.2f} ms, of that "
        f"{busy / 1e3:.2f} ms busy, gaps {(span - busy) / len(kernels):.2f} µs each"
    )
    by_name: dict[str, list[float]] = defaultdict(list)
    for event in kernels:
        by_name[event.name].append(event.time_range.elapsed_us())
    for name, times in sorted(by_name.items(), key=lambda item: -sum(item[1]))[:TOP]:
        print(
            f"   {sum(times):9.1f} µs {len(times):5} × {sum(times) / len(times):7.2f}  {name[:90]}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
