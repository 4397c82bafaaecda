"""Who used the processor."""

from __future__ import annotations

import subprocess
import sys
import time

import psutil
from measure.speed.processor_use import ProcessorUse, seconds_used

BUSY_THREAD = """
import threading
def burn():
    while True: pass
threading.Thread(target=burn, daemon=True).start()
print("ready", flush=True)
input()
"""


def test_threads_but_the_first_are_the_engines() -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", BUSY_THREAD], **pipes) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            server = psutil.Process(process.pid)
            before = after = seconds_used(server)
            deadline = time.monotonic() + 60
            while after["engine's threads"] - before["engine's threads"] < 0.1:
                assert time.monotonic() < deadline, "a busy thread is not seen"
                time.sleep(0.02)
                after = seconds_used(server)
        finally:
            process.kill()
    assert after["server's event loop"] - before["server's event loop"] < 0.05


def test_what_nobody_used_is_told_too() -> None:
    use = ProcessorUse(wall=2.0, cores=2, tokens=1000, seconds={"engine": 3.0, "client": 0.2})
    assert use.as_markdown().splitlines()[2:] == [
        "| engine | 1.50 | 75.0% | 3,000 |",
        "| client | 0.10 | 5.0% | 200 |",
        "| nobody | 0.40 | 20.0% | 800 |",
    ]
