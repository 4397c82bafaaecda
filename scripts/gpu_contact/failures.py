"""Failures provoked one by one, each in a process of its own: what they raise, and whether the
device still answers, as the server asks it."""

from __future__ import annotations

import subprocess
import sys
import traceback
from collections.abc import Callable
from typing import Final

import torch

from llmserve.engines.accelerator import answers
from llmserve.engines.failure import release_memory

LIMIT_SECONDS: Final = 75
DEVICE: Final = torch.device("cuda:0")
STICKY: Final = ("index out of range", "illegal address")
"""After these the device is lost; after all others it computes on."""


def main(argv: list[str]) -> int:
    """`failures`: all of them; `failures NAME`: one, here."""
    if argv:
        return _provoke(argv[0])
    running = [(name, _start(name)) for name in FAILURES]
    return max(_finish(name, process) for name, process in running)


def _start(name: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "gpu_contact.failures", name],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _finish(name: str, process: subprocess.Popen[str]) -> int:
    try:
        output, _ = process.communicate(timeout=LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        print(f"=> {name}: hangs")
        return 1
    print(output, end="")
    return process.returncode


def _provoke(name: str) -> int:
    torch.zeros(1, device=DEVICE)
    try:
        FAILURES[name]()
    except BaseException as error:
        raised = f"{type(error).__name__}: {str(error).splitlines()[0][:100]}"
        traceback.print_exc()
    else:
        raised = "nothing"
    release_memory()  # must not raise
    is_alive = answers(DEVICE)
    is_right = is_alive is (name not in STICKY)
    print(
        f"=> {name}: raised {raised}; the device {'answers' if is_alive else 'is lost'}"
        f"{'' if is_right else ', WHICH IS NOT AS EXPECTED'}"
    )
    return 0 if is_right else 1


def _out_of_memory() -> None:
    torch.empty(2**44, dtype=torch.uint8, device=DEVICE)


def _index_out_of_range() -> None:
    table = torch.zeros(10, 4, device=DEVICE)
    table[torch.tensor([99], device=DEVICE)].sum().item()


def _illegal_address() -> None:
    from gpu_contact.trivial_kernel import _double_kernel

    numbers = torch.zeros(16, device=DEVICE)
    _double_kernel[(1 << 22,)](numbers, numbers, 1 << 31, 1024)
    torch.cuda.synchronize()


def _shared_memory() -> None:
    from gpu_contact.greedy_kernel import greedy

    greedy()


def _no_compiler() -> None:
    """The launcher of a kernel is C, compiled when it is first used."""
    import os
    import tempfile

    os.environ |= {"PATH": "/nowhere", "CC": "", "TRITON_CACHE_DIR": tempfile.mkdtemp()}
    from gpu_contact.trivial_kernel import doubled

    doubled(torch.zeros(16, device=DEVICE))


def _grid_too_large() -> None:
    from gpu_contact.trivial_kernel import _double_kernel

    numbers = torch.zeros(16, device=DEVICE)
    _double_kernel[(1, 1 << 20)](numbers, numbers, 16, 256)
    torch.cuda.synchronize()


def _wrong_shapes() -> None:
    torch.zeros(3, 4, device=DEVICE) @ torch.zeros(5, 6, device=DEVICE)


def _record(work: Callable[[], object]) -> None:
    from llmserve.engines.batching.compute.cuda.graphs import CudaRecorder

    recorder = CudaRecorder(DEVICE)
    numbers = torch.ones(8, device=DEVICE)
    replay = recorder.record(lambda: (numbers * 2, None)[1])
    seen = iter((False, True))

    def second_time() -> None:
        numbers * 2
        if next(seen):
            work()

    try:
        recorder.record(second_time)
    finally:
        replay()  # what was recorded before still works
        torch.cuda.synchronize()


def _sync_inside_a_capture() -> None:
    numbers = torch.ones(8, device=DEVICE)
    _record(lambda: (numbers * 2).sum().item())


def _raise_inside_a_capture() -> None:
    _record(lambda: 1 / 0)


def _out_of_memory_inside_a_capture() -> None:
    _record(lambda: torch.empty(2**44, dtype=torch.uint8, device=DEVICE))


def _sync_found_before() -> None:
    from llmserve.engines.batching.compute.cuda.syncs import RefuseSyncs

    numbers = torch.ones(8, device=DEVICE)
    with torch.inference_mode(), RefuseSyncs():
        numbers.sum().item()


FAILURES: Final[dict[str, Callable[[], None]]] = {
    "out of memory": _out_of_memory,
    "index out of range": _index_out_of_range,
    "illegal address": _illegal_address,
    "too little shared memory": _shared_memory,
    "no C compiler": _no_compiler,
    "grid too large": _grid_too_large,
    "wrong shapes": _wrong_shapes,
    "sync inside a capture": _sync_inside_a_capture,
    "raise inside a capture": _raise_inside_a_capture,
    "out of memory inside a capture": _out_of_memory_inside_a_capture,
    "sync found before a capture": _sync_found_before,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
