"""Compiles the C++ sources once and keeps the result on disk. Knows no model.

The sources are plain C++ behind a C interface, loaded with ctypes: no headers of Python or torch
are needed, a compiler run takes seconds, and ctypes releases the GIL during every call.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import torch

from llmserve.engines.batching.compute.native.instructions import InstructionSet

SOURCES: Final = Path(__file__).parent
COMPILERS: Final = ("g++", "clang++")
COMPILE_SECONDS: Final = 300
ERROR_LINES: Final = 3

OPTIONS: Final = (*("-std=c++20", "-O3", "-fopenmp", "-fPIC", "-shared", "-w", "-fno-math-errno"),)


def load_library(instructions: InstructionSet, cache_dir: Path | None = None) -> ctypes.CDLL | str:
    """The kernels compiled for these instructions, or why there are none. Blocks while a compiler
    runs.

    Processes that start together wait for the compiler of the first. The library's name is a hash
    of all that went into it: sources, options, compiler and torch (whose OpenMP threads it shares).
    """
    try:
        return _load((*OPTIONS, *instructions.options), cache_dir)
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        return f"the native kernels could not be built: {error}"


def _load(options: Sequence[str], cache_dir: Path | None) -> ctypes.CDLL | str:
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        return f"no C++ compiler found ({' or '.join(COMPILERS)})"
    folder = cache_dir or Path.home() / ".cache" / "llmserve" / "native"
    # Code is loaded from here: nobody else may write to it.
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    library = folder / f"kernels-{_key(compiler, options)}.so"
    with _locked(folder / "build.lock"):
        if not library.exists():
            reason = _compile(compiler, options, library)
            if reason is not None:
                return reason
    return ctypes.CDLL(str(library))


def _compile(compiler: str, options: Sequence[str], library: Path) -> str | None:
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        unfinished = Path(folder) / library.name
        sources = map(str, sorted(SOURCES.glob("*.cpp")))
        command = [compiler, *options, *sources, "-o", str(unfinished)]
        done = subprocess.run(  # noqa: S603 - our own command line, no shell
            command, capture_output=True, text=True, timeout=COMPILE_SECONDS, check=False
        )
        if done.returncode != 0:
            # The linker tells what failed, such as a full disk, without the word "error".
            told = (line for line in done.stderr.splitlines() if "collect2" not in line)
            lines = [line for line in told if "error" in line or "failed" in line]
            shown = "; ".join((lines or done.stderr.splitlines())[:ERROR_LINES])
            return f"the native kernels did not compile with {compiler}: {shown}"
        # Atomically: a process that dies here leaves no partial library behind.
        unfinished.replace(library)
    return None


def _key(compiler: str, options: Sequence[str]) -> str:
    version = subprocess.run(  # noqa: S603 - our own command line, no shell
        [compiler, "--version"], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    digest = hashlib.sha256()
    for part in (version, " ".join(options), torch.__version__, platform.libc_ver()[1]):
        digest.update(part.encode() + b"\0")
    for source in sorted([*SOURCES.glob("*.cpp"), *SOURCES.glob("*.h")]):
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    return digest.hexdigest()[:20]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        # The system releases the lock when the process dies.
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
