"""Programs that are forks of a process that has imported everything: `fork_server.py`."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO, Any, Final

from fork_program import Program

PROGRAM: Final = Path(__file__).with_name("fork_server.py")
OWN: Final = (
    *("LLMSERVE_", "PYTEST_CURRENT_TEST", "XDG_STATE_HOME"),
    *("GOMP_SPINCOUNT", "RAY_CLIENT_MODE", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"),
)
"""Variables that no module looks at when it is imported, and what imports set themselves."""
ENVIRONMENT: Final = dict(os.environ)
"""This process's, before the test that runs changed it."""


def note_environment() -> None:
    """Called before each test: what was set earlier, as imports do, is not the test's wish."""
    ENVIRONMENT.clear()
    ENVIRONMENT.update(os.environ)


class ForkServer:
    """One for this process, until it ends."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            # It ends when the control socket is closed.
            self._process = subprocess.Popen(
                [sys.executable, str(PROGRAM), str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=ENVIRONMENT,
                stdin=subprocess.DEVNULL,
            )

    def start(self, program: Program, streams: Sequence[int]) -> socket.socket:
        return program.send(self._control, streams)


the_fork_server = cache(ForkServer)


def outer(environment: Mapping[str, str]) -> dict[str, str]:
    """What must be the same for a fork."""
    return {name: value for name, value in environment.items() if not name.startswith(OWN)}


def popen(command: Sequence[str], **options: Any) -> subprocess.Popen[bytes] | ForkedProcess:
    """Like `subprocess.Popen`. The program is a fork if it is one of Python's modules, and its
    environment the one in which everything was imported; on Linux only."""
    executable, flag, *_ = command
    if (sys.platform, executable, flag) == ("linux", sys.executable, "-m"):
        if outer(options["env"]) == outer(ENVIRONMENT):
            return ForkedProcess(the_fork_server(), command, **options)
    return subprocess.Popen(command, **options)


class ForkedProcess:
    """What tests need of `subprocess.Popen`."""

    def __init__(
        self,
        server: ForkServer,
        command: Sequence[str],
        *,
        cwd: Path | None,
        env: Mapping[str, str],
        stdout: IO[bytes],
        stderr: int,
        start_new_session: bool = False,
    ) -> None:
        assert stderr == subprocess.STDOUT
        self.args = command
        self.returncode: int | None = None
        program = Program(
            command[2],
            tuple(command[3:]),
            dict(env),
            str(cwd or Path.cwd()),
            has_own_session=start_new_session,
        )
        with Path(os.devnull).open() as nothing:
            streams = [nothing.fileno(), stdout.fileno(), stdout.fileno()]
            self._answers = server.start(program, streams)
        self.pid = int(self._answer())

    def poll(self) -> int | None:
        """The exit code, negative for a signal; `None` while it runs."""
        if self.returncode is None and select.select([self._answers], [], [], 0)[0]:
            self._end()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Raises: subprocess.TimeoutExpired: it runs still."""
        if self.returncode is None:
            if not select.select([self._answers], [], [], timeout)[0]:
                assert timeout is not None
                raise subprocess.TimeoutExpired(self.args, timeout)
            self._end()
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, sig: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, sig)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _end(self) -> None:
        self.returncode = os.waitstatus_to_exitcode(int(self._answer()))
        self._answers.close()

    def _answer(self) -> bytes:
        answer = self._answers.recv(20)
        assert answer, "the fork server has ended"
        return answer
