"""What a process that forks is asked for, by messages on a Unix socket."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final, Self

MESSAGE_BYTES: Final = 2**17
MAX_DESCRIPTORS: Final = 16
OUT_OF_THE_WAY: Final = 100
"""No descriptor of a program is expected to have this number or a higher one."""


@dataclass(frozen=True, slots=True)
class Program:
    """What a child becomes. Its standard streams are sent beside it, and then `inherited`."""

    module: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    folder: str
    inherited: tuple[int, ...] = ()
    has_own_session: bool = False

    @property
    def is_supervisor(self) -> bool:
        """Whether it starts workers."""
        return self.module == "llmserve" and self.arguments[:1] == ("serve",)

    def send(self, control: socket.socket, descriptors: Sequence[int]) -> socket.socket:
        """Ask for it; returns where the answers come."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            message = json.dumps(asdict(self)).encode()
            socket.send_fds(control, [message], [theirs.fileno(), *descriptors])
        return ours

    def become(self, descriptors: Sequence[int]) -> None:
        """Turn this process, a fresh child, into one that is about to run the module."""
        moved = [fcntl.fcntl(fd, fcntl.F_DUPFD, OUT_OF_THE_WAY) for fd in descriptors]
        os.closerange(3, OUT_OF_THE_WAY)
        for target, fd in zip((0, 1, 2, *self.inherited), moved, strict=True):
            os.dup2(fd, target)
            os.close(fd)
        if self.has_own_session:
            os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.environ.clear()
        os.environ.update(self.environment)
        time.tzset()
        os.chdir(self.folder)
        sys.path.insert(0, self.folder)
        sys.argv = [self.module, *self.arguments]


@dataclass(frozen=True, slots=True)
class Asked:
    """A program that was asked for, where the answers go, and its descriptors."""

    program: Program
    answers: socket.socket
    descriptors: Sequence[int]

    @classmethod
    def receive(cls, control: socket.socket) -> Self | None:
        """The next one; `None` when nobody is there any more."""
        message, received, _, _ = socket.recv_fds(control, MESSAGE_BYTES, MAX_DESCRIPTORS)
        if not message:
            return None
        fields = json.loads(message)
        program = Program(**{
            name: tuple(value) if isinstance(value, list) else value
            for name, value in fields.items()
        })  # fmt: skip
        answers, *descriptors = received
        return cls(program, socket.socket(fileno=answers), descriptors)

    def close(self) -> None:
        """The child has them now."""
        self.answers.close()
        for fd in self.descriptors:
            os.close(fd)
