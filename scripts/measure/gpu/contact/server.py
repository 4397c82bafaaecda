"""The server itself on the demo model: started, asked over HTTP, stopped."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

READY_SECONDS = 90
QUESTION = "How do I warm a model?"


def main(argv: list[str]) -> int:
    """`server [DEVICE]`."""
    device = argv[0] if argv else "cuda:0"
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("wb") as output:
            server = subprocess.Popen(
                [
                    *(sys.executable, "-m", "llmserve", "serve", "demo"),
                    *("--port", "0", "--device", device),
                ],
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "LLMSERVE_LOG_FORMAT": "human"},
            )
        try:
            return _visit(server, log)
        finally:
            server.kill()
            server.wait()
            print(log.read_text("utf-8", errors="replace"))


def _visit(server: subprocess.Popen[bytes], log: Path) -> int:
    begun = time.monotonic()
    url = _ready(server, log)
    print(f"=> ready after {time.monotonic() - begun:.1f} s")
    models = _get(f"{url}/v1/models")
    print(f"=> {json.dumps(models['data'][0], ensure_ascii=False)}")
    body = {"messages": [{"role": "user", "content": QUESTION}], "temperature": 0}
    answer = _get(f"{url}/v1/chat/completions", body)["choices"][0]["message"]["content"]
    print(f"=> {answer}")
    server.send_signal(signal.SIGTERM)
    code = server.wait(30)
    print(f"=> stopped with {code}")
    return 0 if "warm" in answer and code == 0 else 1


def _ready(server: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        found = re.search(r"http://127\.0\.0\.1:\d+", log.read_text("utf-8", errors="replace"))
        if found:
            try:
                _get(f"{found[0]}/health/ready")
            except (urllib.error.URLError, ConnectionError):
                pass
            else:
                return found[0]
        time.sleep(0.2)
    raise TimeoutError("the server did not become ready")


def _get(url: str, body: object = None) -> dict[str, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as response:
        return json.load(response)  # type: ignore[no-any-return]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
