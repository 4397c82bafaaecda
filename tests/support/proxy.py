"""The real nginx on the real configuration, changed only in its ports and paths."""

from __future__ import annotations

import contextlib
import os
import re
import ssl
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
from needs import needs
from programs import started
from server import free_port

DEPLOY = Path(__file__).parents[2] / "scripts" / "deploy"
STATIC = Path(__file__).parents[2] / "llmserve" / "api" / "playground" / "static"
CONFIGURATION = DEPLOY / "nginx" / "nginx.conf"


@dataclass
class Proxy:
    """A running nginx. `trust` trusts its certificate."""

    port: int
    plain_port: int
    trust: ssl.SSLContext
    log: Path

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    def client(self, **options: object) -> httpx.Client:
        return httpx.Client(base_url=self.url, verify=self.trust, timeout=30, **options)  # type: ignore[arg-type]


def configure(
    folder: Path, upstreams: Sequence[int], port: int, plain_port: int, **changes: str
) -> Path:
    """The configuration for these upstream ports; each change replaces one text by another."""
    text = CONFIGURATION.read_text()
    servers = "\n".join(f"server 127.0.0.1:{p} max_fails=0;" for p in upstreams)
    replacements = {
        "server llmserve:8000 max_fails=0;": servers,
        "/run/nginx.pid": str(folder / "nginx.pid"),
        "/etc/nginx/tls/": f"{folder}/tls/",
        "/usr/share/llmserve": str(folder / "share"),
        "/dev/stdout": str(folder / "access.log"),
        "listen 80;": f"listen 127.0.0.1:{plain_port};",
        "listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;",
    } | changes
    for old, new in replacements.items():
        assert old in text, f"{old!r} is not in nginx.conf"
        text = re.sub(rf"(?<!# ){re.escape(old)}", lambda _, new=new: new, text)  # type: ignore[misc]
    (folder / "share").mkdir(exist_ok=True)
    link = folder / "share" / "playground"
    if not link.exists():
        link.symlink_to(STATIC)
    subprocess.run(
        [DEPLOY / "nginx" / "make-certificate", "localhost", folder / "tls"],
        check=True,
        capture_output=True,
    )
    configuration = folder / "nginx.conf"
    configuration.write_text(text)
    return configuration


@contextlib.contextmanager
def running_proxy(folder: Path, upstreams: Sequence[int], **changes: str) -> Iterator[Proxy]:
    """nginx in front of these ports, stopped at the end."""
    nginx = needs("nginx")
    needs("openssl")
    port, plain_port = free_port(), free_port()
    configuration = configure(folder, upstreams, port, plain_port, **changes)
    # A root's workers would be nobody, who may not read the test's folder.
    user = " user root;" if os.geteuid() == 0 else ""
    log = folder / "nginx.log"
    command = (nginx, "-p", folder, "-c", configuration, "-g", f"daemon off;{user}")
    trust = ssl.create_default_context(cafile=str(folder / "tls" / "server.crt"))
    proxy = Proxy(port, plain_port, trust, log)
    with started(command, log) as process:
        deadline = time.monotonic() + 20
        while True:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            with contextlib.suppress(httpx.TransportError):
                httpx.get(f"http://127.0.0.1:{plain_port}/")
                break
            time.sleep(0.02)
        yield proxy
