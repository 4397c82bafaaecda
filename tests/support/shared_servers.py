"""Test files that share a server run in one process, one after another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from xdist.scheduler import LoadFileScheduling

FILES: Final[Mapping[tuple[str, ...], tuple[str, ...]]] = {
    ("demo_host",): (
        "clients/test_anthropic_node.py", "clients/test_anthropic_python.py",
        "clients/test_clients_page.py", "clients/test_embeddings.py",
        "clients/test_embeddings_node.py", "clients/test_eventsource.py",
        "clients/test_guidellm.py", "clients/test_huggingface.py",
        "clients/test_instructor.py", "clients/test_langchain.py", "clients/test_ollama.py",
        "clients/test_litellm.py", "clients/test_lm_eval.py", "clients/test_openai_node.py",
        "clients/test_openai_python.py", "clients/test_openai_responses.py",
        "clients/test_openai_responses_node.py", "clients/test_pydantic_ai.py",
        "clients/test_responses_libraries.py", "clients/test_vercel.py",
        "clients/test_vercel_openai.py",
    ),
    ("pair",): (
        "deploy/test_prometheus.py", "e2e/test_models.py", "e2e/test_resuming.py",
        "e2e/test_run_directory.py", "e2e/test_shutdown.py", "e2e/test_status_page.py",
        "e2e/test_stored_responses.py", "e2e/test_workers.py",
    ),
    ("demo",): (
        "cli/test_conversation.py", "deploy/test_nginx.py", "doctor/test_examination.py",
        "e2e/test_crowd.py", "e2e/test_demo_embedding.py", "e2e/test_demo_tools.py",
        "e2e/test_docs_page.py",
        "e2e/test_gateway.py", "e2e/test_playground.py", "e2e/test_road.py",
    ),
    ("plain", "guarded", "strict"): (
        "cli/test_cli.py", "e2e/test_anthropic_keys.py", "e2e/test_box.py",
        "e2e/test_conversations.py", "e2e/test_endings.py", "e2e/test_fields.py",
        "e2e/test_framing.py", "e2e/test_grpc.py", "e2e/test_grpc_gateway.py",
        "e2e/test_handshake.py",
        "e2e/test_http_versions.py",
        "e2e/test_large_bodies.py", "e2e/test_logprobs.py", "e2e/test_malformed.py",
        "scripts/test_warm.py",
    ),
}  # fmt: skip
"""The files, below `tests`, that use these servers, which are fixtures' names."""

_FIRSTS: Final = {"tests/" + file: files[0] for files in FILES.values() for file in files}


class SharedServers(LoadFileScheduling):
    """Like `--dist loadfile`, but these files are one."""

    def _split_scope(self, nodeid: str) -> str:
        file = str(super()._split_scope(nodeid))
        return _FIRSTS.get(file, file)
