"""A Ray on loopback with llmserve on it, until standard input is closed.

python ray_host.py TEMP_DIR PORT ARGUMENTS
"""

from __future__ import annotations

import json
import sys

import ray
from ray import serve

from llmserve.workers.ray_serve import app

OBJECT_STORE_BYTES = 90 * 2**20
ADDRESS = "127.0.0.2"
"""Ray takes 127.0.0.1 for a wish to be reached from everywhere."""


def main(temp_dir: str, port: int, arguments: dict[str, object]) -> None:
    ray.init(
        num_cpus=4,
        num_gpus=0,
        include_dashboard=False,
        object_store_memory=OBJECT_STORE_BYTES,
        _node_ip_address=ADDRESS,
        _temp_dir=temp_dir,
    )
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        serve.run(app(arguments))
        print("the application runs", flush=True)
        sys.stdin.read()
        serve.delete("default")  # a mere shutdown ends the proxies first
    finally:
        serve.shutdown()
        ray.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3]))
