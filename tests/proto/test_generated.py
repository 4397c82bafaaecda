"""The generated code is that of the proto."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROTO = Path("llmserve/proto/v1/generation.proto")


def test_the_generated_code_is_current(tmp_path: Path) -> None:
    outputs = (f"--{kind}_out={tmp_path}" for kind in ("python", "pyi", "grpc_python"))
    command = (sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={ROOT}", *outputs)
    subprocess.run((*command, PROTO), cwd=ROOT, check=True)
    made = sorted(file.relative_to(tmp_path) for file in tmp_path.rglob("*.py*"))
    assert len(made) == 3
    for file in made:
        is_same = (tmp_path / file).read_text() == (ROOT / file).read_text()
        assert is_same, f"{file} is older than the proto; run scripts/make_proto"
