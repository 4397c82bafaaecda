"""Failures provoked one by one, each in a process of its own: what they raise, and whether the
device still answers, as the server asks it."""

from __future__ import annotations

import subprocess
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch

from llmserve.engines.accelerator import answers
from llmserve.engines.failure import release_memory

LIMIT_SECONDS: Final = 75
DEVICE: Final = torch.device("cuda:0")


def main(argv: list[str]) -> int:
    """`failures`: all of them; `failures NAME`: one, here."""
    if argv:
        return _provoke(argv[0])
    running = [(name, _start(name)) for name in FAILURES]
    return max(_finish(name, process) for name, process in running)


def _start(name: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "measure.gpu.contact.failures", name],
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
    failure = FAILURES[name]
    raised, message = "nothing", ""
    try:
        failure.provoke()
    except BaseException as error:
        raised, message = type(error).__name__, (str(error).splitlines() or [""])[0][:100]
        traceback.print_exc()
    release_memory()  # must not raise
    is_alive = answers(DEVICE)
    is_right = is_alive is not failure.is_sticky and raised in failure.types
    print(
        f"=> {name}: raised {raised} ({message}); "
        f"the device {'answers' if is_alive else 'is lost'}"
        f"{'' if is_right else f', WHICH IS NOT AS EXPECTED ({failure.types})'}"
    )
    return 0 if is_right else 1


def _out_of_memory() -> None:
    torch.empty(2**44, dtype=torch.uint8, device=DEVICE)


def _index_out_of_range() -> None:
    table = torch.zeros(10, 4, device=DEVICE)
    table[torch.tensor([99], device=DEVICE)].sum().item()


def _illegal_address() -> None:
    from measure.gpu.contact.trivial_kernel import _double_kernel

    numbers = torch.zeros(16, device=DEVICE)
    _double_kernel[(1 << 22,)](numbers, numbers, 1 << 31, 1024)
    torch.cuda.synchronize()


def _shared_memory() -> None:
    from measure.gpu.contact.greedy_kernel import greedy

    greedy()


def _no_compiler() -> None:
    """The launcher of a kernel is C, compiled when it is first used."""
    import os
    import tempfile

    os.environ |= {"PATH": "/nowhere", "CC": "", "TRITON_CACHE_DIR": tempfile.mkdtemp()}
    from measure.gpu.contact.trivial_kernel import doubled

    doubled(torch.zeros(16, device=DEVICE))


def _grid_too_large() -> None:
    from measure.gpu.contact.trivial_kernel import _double_kernel

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


@dataclass(frozen=True, slots=True)
class Failure:
    """What provokes it, the names of the types that it may raise, and whether the device is lost
    after it."""

    provoke: Callable[[], object]
    types: tuple[str, ...]
    is_sticky: bool = False


_CUDA: Final = ("AcceleratorError", "RuntimeError")

FAILURES: Final = {
    "out of memory": Failure(_out_of_memory, ("OutOfMemoryError",)),
    "index out of range": Failure(_index_out_of_range, _CUDA, is_sticky=True),
    "illegal address": Failure(_illegal_address, _CUDA, is_sticky=True),
    "too little shared memory": Failure(_shared_memory, ("OutOfResources",)),
    "no C compiler": Failure(
        _no_compiler, ("RuntimeError", "CalledProcessError", "FileNotFoundError")
    ),
    "grid too large": Failure(_grid_too_large, _CUDA),
    "wrong shapes": Failure(_wrong_shapes, ("RuntimeError",)),
    "sync inside a capture": Failure(_sync_inside_a_capture, _CUDA),
    "raise inside a capture": Failure(_raise_inside_a_capture, ("ZeroDivisionError",)),
    "out of memory inside a capture": Failure(
        _out_of_memory_inside_a_capture, ("OutOfMemoryError",)
    ),
    "sync found before a capture": Failure(_sync_found_before, ("WaitsForDevice",)),
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
