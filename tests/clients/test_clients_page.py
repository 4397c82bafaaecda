"""The lines of the page of clients do what they say."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from client_session import CLIENTS, run_program
from clients_page import PAGE, blocks
from needs import needs, needs_installed
from server import Server

WHO = "I am the demo model of llmserve."
MARK = "-----"


def outputs(program: str, arguments: list[str], folder: Path) -> list[str]:
    told = run_program([program, *arguments], folder, {"HF_HUB_OFFLINE": "0"}).split(MARK)
    return [each.strip() for each in told]


def test_the_lines_for_a_shell(demo_host: Server) -> None:
    needs("curl")
    [block] = blocks("console", demo_host.url)
    commands = re.findall(r"^\$ (.*?)(?=^\$ |\Z)", block, re.DOTALL | re.MULTILINE)
    responses, messages, chat, embeddings, ranked = (
        subprocess.run(
            ["sh", "-c", c], capture_output=True, text=True, check=True, timeout=60
        ).stdout
        for c in commands
    )
    assert WHO in json.loads(responses)["output"][0]["content"][0]["text"]
    assert WHO in json.loads(messages)["content"][0]["text"]
    assert json.loads(chat.splitlines()[-1])["done_reason"] == "stop"
    assert len(json.loads(embeddings)["data"]) == 2
    assert json.loads(ranked)["results"][0].keys() == {"index", "relevance_score"}


def test_the_lines_for_python(demo_host: Server, tmp_path: Path) -> None:
    environment = needs_installed(Path(f"{sys.prefix}-clients"))
    codes = blocks("python", demo_host.url)
    script = tmp_path / "page.py"
    script.write_text(f"print({MARK!r})\n".join(codes))
    told = outputs(str(environment / "bin" / "python"), [str(script)], tmp_path)
    assert len(told) == len(codes) > 7
    for code, output in zip(codes, told, strict=True):
        if "Who are you?" in code:
            assert WHO in output, code
        elif "Person" in code:
            assert output == "name='Anna' age=7"
        else:
            assert output


def test_the_lines_for_node(demo_host: Server) -> None:
    needs_installed(CLIENTS / "node_modules")
    for code in blocks("js", demo_host.url):
        [output] = outputs(needs("node"), ["--input-type=module", "-e", code], CLIENTS)
        assert output.count(WHO) == code.count("console.log") + code.count("for (const")


def test_the_versions_are_those_that_are_installed() -> None:
    pins = dict(
        re.findall(r"^([\w.-]+)==(\S+)$", (CLIENTS / "requirements.txt").read_text(), re.MULTILINE)
    )
    node = json.loads((CLIENTS / "package.json").read_text())["dependencies"]
    main = dict(
        re.findall(
            r"^([\w.-]+)==(\S+)$",
            (CLIENTS.parents[1] / "constraints.txt").read_text(),
            re.MULTILINE,
        )
    )
    rows = dict(re.findall(r"^\| (.*?) \| (\d[\w.]*) \|", PAGE.read_text(), re.MULTILINE))
    known = {
        "`openai`, Python": pins["openai"], "`openai`, Node": node["openai"],
        "`anthropic`, Python": main["anthropic"],
        "`@anthropic-ai/sdk`, Node": node["@anthropic-ai/sdk"],
        "`langchain-openai`": pins["langchain-openai"],
        "`pydantic-ai`": pins["pydantic-ai-slim"], "`instructor`": pins["instructor"],
        "`litellm`": pins["litellm"], "`ollama`, Python": pins["ollama"],
        "`cohere`, Python": pins["cohere"],
        "`eventsource`, Node": node["eventsource"], "`lm-eval`": pins["lm-eval"],
        "`guidellm`": pins["guidellm"],
    }  # fmt: skip
    assert {name: rows[name] for name in known} == known
    [vercel] = (name for name in rows if "Vercel" in name)
    assert rows[vercel] == node["ai"]
    for package in ("@ai-sdk/openai-compatible", "@ai-sdk/openai"):
        assert f"`{package}` {node[package]}" in vercel
