"""A server's URL for clients on the same machine, and the file that contains it."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from loguru import logger

LOOPBACK: Final = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared
"""For a server that listens on every address."""


def url_here(host: str, port: int) -> str:
    """The URL of a server that listens there, for a client on the same machine."""
    host = LOOPBACK.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextlib.contextmanager
def published(address_file: Path | None, host: str, port: int) -> Iterator[None]:
    """Inside the block, the file contains the URL of the server that listens there."""
    if address_file is None:
        yield
        return
    url = publish(address_file, host, port)
    try:
        yield
    finally:
        withdraw(address_file, url)


def publish(address_file: Path, host: str, port: int) -> str:
    """Write the URL to the file; if it cannot be written, only a warning is logged."""
    url = url_here(host, port)
    try:
        address_file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=address_file.parent) as folder:
            unfinished = Path(folder) / address_file.name
            unfinished.write_text(url + "\n", encoding="utf-8")
            unfinished.replace(address_file)  # atomic, so that nobody reads half of it
    except OSError as error:
        logger.warning("address_file {} cannot be written: {}", address_file, error.strerror)
    return url


def withdraw(address_file: Path, url: str) -> None:
    """Remove the file, unless another server has written its own URL meanwhile."""
    if published_url(address_file) == url:
        with contextlib.suppress(OSError):
            address_file.unlink()


def published_url(address_file: Path) -> str | None:
    """The URL that a running server wrote there; `None` if there is none."""
    try:
        return address_file.read_text(encoding="utf-8").strip() or None
    except (OSError, UnicodeDecodeError):
        return None
