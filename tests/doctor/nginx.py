"""A real nginx in front of a port, configured by a test."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from programs import started
from server import free_port

START_SECONDS = 20.0
NUM_TRIES = 5

GOOD = """
proxy_http_version 1.1;
proxy_set_header Host $http_host;
proxy_set_header Upgrade $http_upgrade;
proxy_set_header Connection $connection_upgrade;
proxy_buffering off;
proxy_read_timeout 600s;
client_max_body_size 8m;
"""
CONFIGURATION = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 128; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    map $http_upgrade $connection_upgrade {{ default upgrade; "" ""; }}
    server {{
        listen 127.0.0.1:{port} {tls};
        {server}
        location / {{
            proxy_pass http://127.0.0.1:{upstream};
            {location}
        }}
    }}
}}
"""


@contextlib.contextmanager
def nginx(
    folder: Path, upstream: int, location: str = GOOD, server: str = "", *, tls: bool = False
) -> Iterator[int]:
    """The port of an nginx that passes everything on; stopped at the end."""
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if program is None:
        reason = "nginx is not installed"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    folder.mkdir(parents=True, exist_ok=True)
    configuration = folder / "nginx.conf"
    command = (program, "-p", folder, "-c", configuration, "-e", folder / "error.log")
    # nginx cannot be asked for a free port: somebody may take ours in between.
    for _ in range(NUM_TRIES):
        port = free_port()
        configuration.write_text(
            CONFIGURATION.format(
                folder=folder, port=port, upstream=upstream, location=location, server=server,
                tls="ssl" if tls else "",
            )
        )  # fmt: skip
        with started(command, folder / "nginx.log") as process:
            if _listens(process, port):
                yield port
                return
    raise AssertionError(f"nginx does not start:\n{(folder / 'error.log').read_text()}")


def _listens(process: subprocess.Popen[bytes], port: int) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return process.poll() is None
        if time.monotonic() > deadline:
            break
        time.sleep(0.02)
    return False
