"""A process that has imported everything and forks: a child is `python -m MODULE` without the
seconds that torch's and transformers' imports take.

    python fork_server.py CONTROL

CONTROL is a socket. Each message on it is a `Program` with its descriptors; the answers, on a
socket of the program's own, are its process id and its exit status. The workers of a supervisor
are forked, too, by a second process like this one.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import importlib
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

from fork_program import Asked, Program

MODULES: Final = (
    "llmserve.api.app",
    "llmserve.grpc.beside",
    "llmserve.workers.app",
    "llmserve.workers.serve",
    "llmserve.workers.server",
    "rich.progress",
    "rich.table",
    "transformers.models.llama.modeling_llama",
    "uvloop",
)
"""What is imported beforehand, besides the engines: nothing that looks at the environment or, as
`llmserve.cli` does, at the clock."""
PR_SET_CHILD_SUBREAPER: Final = 36


def children_of(control: socket.socket) -> Asked | None:
    """Fork a child for each program, and tell how it ended. Returns in the children; `None` when
    nobody asks any more."""
    with selectors.DefaultSelector() as ready:
        ready.register(control, selectors.EVENT_READ)
        while True:
            for key, _ in ready.select():
                if key.fileobj is not control:
                    ready.unregister(key.fd)
                    os.close(key.fd)
                    pid, answers = key.data
                    with contextlib.suppress(BrokenPipeError), answers:
                        answers.send(str(os.waitpid(pid, 0)[1]).encode())
                    continue
                asked = Asked.receive(control)
                if asked is None:
                    return None
                pid = fork()
                if pid == 0:
                    return asked
                asked.answers.send(str(pid).encode())
                ready.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, asked.answers.dup()))
                asked.close()


def orphans_of(control: socket.socket) -> Asked | None:
    """Fork a grandchild for each program, whose parent is then the process that asks, as that is
    the nearest subreaper. Returns in the grandchildren; `None` when nobody asks any more."""
    while asked := Asked.receive(control):
        read_end, write_end = os.pipe()
        between = fork()
        if between == 0:
            pid = fork()
            if pid == 0:
                return asked
            os.write(write_end, str(pid).encode())
            os._exit(0)
        os.waitpid(between, 0)
        asked.answers.send(os.read(read_end, 20))
        os.close(read_end)
        os.close(write_end)
        asked.close()
    return None


def fork() -> int:
    """Like `os.fork`. Another thread would be missing in the child, maybe with a lock."""
    assert sum(1 for _ in Path("/proc/self/task").iterdir()) == 1, "this process has threads"
    return os.fork()


class ForkedWorker:
    """What the supervisor needs of `subprocess.Popen`."""

    def __init__(
        self,
        control: socket.socket,
        command: Sequence[str],
        *,
        pass_fds: Sequence[int],
        env: Mapping[str, str],
        stdin: int,
        start_new_session: bool,
    ) -> None:
        executable, flag, module, *arguments = command
        assert (executable, flag, stdin) == (sys.executable, "-m", subprocess.DEVNULL)
        program = Program(
            module,
            tuple(arguments),
            env,
            str(Path.cwd()),
            inherited=tuple(pass_fds),
            has_own_session=start_new_session,
        )
        with Path(os.devnull).open() as nothing:
            answers = program.send(control, [nothing.fileno(), 1, 2, *pass_fds])
        with answers:
            self.pid = int(answers.recv(20))
        self._status: int | None = None

    def poll(self) -> int | None:
        """The exit code, negative for a signal; `None` while it runs."""
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._status = os.waitstatus_to_exitcode(status) if pid else None
        return self._status


def start_workers_by(control: socket.socket) -> None:
    """Let the supervisor that this process becomes ask there for its workers."""
    from llmserve.workers import process

    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)

    def popen(command: Sequence[str], **options: Any) -> ForkedWorker:
        return ForkedWorker(control, command, **options)

    process.subprocess = SimpleNamespace(Popen=popen, DEVNULL=subprocess.DEVNULL)  # type: ignore[assignment, unused-ignore]


class Leaving:
    """Ends the process once its own and all modules' exit functions have run: to take every module
    apart would take half a second, in which nearly all pages of the parent are copied."""

    def __init__(self) -> None:
        self._status: int | None = None
        atexit.register(self._leave)  # the first one to be registered is the last one to run

    def run(self, module: str) -> None:
        """Run it as the main program."""
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
            self._status = 0
        except SystemExit as ended:
            if not isinstance(ended.code, int | None):
                raise
            self._status = ended.code or 0

    def _leave(self) -> None:
        if self._status is not None:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(self._status & 0xFF)


def import_everything() -> None:
    from llmserve.engines.heavy import import_engines

    import_engines(lambda progress: None)
    for module in MODULES:
        importlib.import_module(module)
    gc.freeze()


def next_program(control: socket.socket, source: Callable[[socket.socket], Asked | None]) -> bool:
    """Become the next program; `False` when there is none."""
    asked = source(control)
    if asked is None:
        return False
    control.detach()
    asked.answers.detach()
    asked.program.become(asked.descriptors)
    if asked.program.is_supervisor:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if fork() == 0:
            ours.close()
            if not next_program(theirs, orphans_of):
                os._exit(0)
            return True
        theirs.close()
        start_workers_by(ours)
    return True


if __name__ == "__main__":
    sys.path.pop(0)  # not tests/support
    leaving = Leaving()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: whoever started this ends it
    import_everything()
    if next_program(socket.socket(fileno=int(sys.argv[1])), children_of):
        leaving.run(sys.argv[0])
