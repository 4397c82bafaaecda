"""Failures provoked one by one, each in a process of its own: what they raise, and what is left."""

from __future__ import annotations

import subprocess
import sys
import traceback
from collections.abc import Callable

import torch


def main(argv: list[str]) -> int:
    """`failures`: all of them; `failures NAME`: one, here."""
    if argv:
        _provoke(argv[0])
        return 0
    running = [
        (
            name,
            subprocess.Popen(
                [sys.executable, "-m", "gpu_contact.failures", name],
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            ),
        )
        for name in FAILURES
    ]  # fmt: skip
    for name, process in running:
        try:
            output, _ = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            output = "=> hung"
        print(f"---- {name}: exit {process.returncode}\n{output}")
    return 0


def _provoke(name: str) -> None:
    torch.zeros(1, device="cuda")
    try:
        FAILURES[name]()
    except BaseException as error:
        kinds = " < ".join(kind.__name__ for kind in type(error).__mro__[:-2])
        first = str(error).splitlines()[0] if str(error) else ""
        print(f"=> {name}: {kinds}: {first[:160]}")
        traceback.print_exc()
    else:
        print(f"=> {name}: raised nothing")
    for what, check in AFTERWARDS.items():
        try:
            print(f"=> {name}, afterwards {what}: {check()}")
        except BaseException as error:
            first = str(error).splitlines()[0] if str(error) else ""
            print(f"=> {name}, afterwards {what}: {type(error).__name__}: {first[:120]}")


def _alive() -> object:
    return torch.ones(4, device="cuda").sum().item()


def _emptied() -> object:
    torch.cuda.empty_cache()
    return "fine"


AFTERWARDS: dict[str, Callable[[], object]] = {
    "a tiny operation": _alive,
    "empty_cache": _emptied,
    "a tiny operation again": _alive,
}


def _out_of_memory() -> None:
    torch.empty(2**44, dtype=torch.uint8, device="cuda")


def _index_out_of_range() -> None:
    table = torch.zeros(10, 4, device="cuda")
    table[torch.tensor([99], device="cuda")].sum().item()


def _bad_kernel() -> None:
    from gpu_contact.trivial_kernel import _double_kernel

    numbers = torch.zeros(16, device="cuda")
    _double_kernel[(1 << 22,)](numbers, numbers, 1 << 31, 1024)
    torch.cuda.synchronize()


def _triton_shared_memory() -> None:
    import triton.language as tl  # noqa: F401

    from gpu_contact.greedy_kernel import greedy

    greedy()


def _grid_too_large() -> None:
    from gpu_contact.trivial_kernel import _double_kernel

    numbers = torch.zeros(16, device="cuda")
    _double_kernel[(1, 1 << 20)](numbers, numbers, 16, 256)
    torch.cuda.synchronize()


def _product_of_wrong_shapes() -> None:
    torch.zeros(3, 4, device="cuda") @ torch.zeros(5, 6, device="cuda")


def _capture(work: Callable[[], object]) -> None:
    stream = torch.cuda.Stream()
    graph = torch.cuda.CUDAGraph()
    pool = torch.cuda.graph_pool_handle()
    with torch.cuda.stream(stream):
        graph.capture_begin(pool=pool, capture_error_mode="thread_local")
        try:
            work()
        finally:
            graph.capture_end()


def _sync_inside_a_capture() -> None:
    numbers = torch.ones(8, device="cuda")
    _capture(lambda: (numbers * 2).sum().item())


def _allocation_inside_a_capture_that_fails() -> None:
    numbers = torch.ones(8, device="cuda")

    def work() -> None:
        numbers * 2
        raise RuntimeError("the model raised")

    _capture(work)


def _oom_inside_a_capture() -> None:
    _capture(lambda: torch.empty(2**44, dtype=torch.uint8, device="cuda"))


def _sync_noticed_before() -> None:
    numbers = torch.ones(8, device="cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        numbers.sum().item()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def _nonzero_noticed_before() -> None:
    numbers = torch.ones(8, device="cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        numbers.nonzero()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def _stream_sync_in_error_mode() -> None:
    torch.cuda.set_sync_debug_mode("error")
    try:
        torch.cuda.current_stream().synchronize()
        torch.ones(3).to("cuda")
        torch.ones(3).to("cuda", non_blocking=True)
    finally:
        torch.cuda.set_sync_debug_mode("default")


FAILURES: dict[str, Callable[[], None]] = {
    "out of memory": _out_of_memory,
    "index out of range": _index_out_of_range,
    "illegal address": _bad_kernel,
    "shared memory": _triton_shared_memory,
    "grid too large": _grid_too_large,
    "wrong shapes": _product_of_wrong_shapes,
    "sync inside a capture": _sync_inside_a_capture,
    "raise inside a capture": _allocation_inside_a_capture_that_fails,
    "out of memory inside a capture": _oom_inside_a_capture,
    "item in sync debug mode": _sync_noticed_before,
    "nonzero in sync debug mode": _nonzero_noticed_before,
    "copies in sync debug mode": _stream_sync_in_error_mode,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
