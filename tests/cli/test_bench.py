"""The command line of `llmserve bench`."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from openai_server import OpenAIServer, embeddings, openai_server, refusal, words
from typer.testing import CliRunner

from llmserve.cli.main import app
from llmserve.errors import ConfigurationError


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    """On a thread of its own: the command has its own event loop."""
    ready, loop, held = threading.Event(), asyncio.new_event_loop(), []

    async def serve() -> None:
        async with openai_server(lambda body: words(4)) as it:
            held.append(it)
            ready.set()
            await stop.wait()

    stop = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert ready.wait(10)
    yield held[0]
    loop.call_soon_threadsafe(stop.set)
    thread.join(10)
    loop.close()


def invoke(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["bench", *arguments])
    return result.exit_code, result.output


def test_no_answer_at_all_is_exit_code_1(server: OpenAIServer) -> None:
    server.script = lambda body: refusal(500, "broken")
    code, output = invoke(server.url, "--requests", "2", "--warmup", "0")
    assert code == 1
    assert "status 500 broken" in output


def test_a_word_for_the_endpoint_that_does_not_exist_is_refused(server: OpenAIServer) -> None:
    code, output = invoke(server.url, "--endpoint", "embeddings")
    assert code == 2
    assert "completions or chat" in output


def test_tables_and_json_say_the_same(server: OpenAIServer, tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    arguments = ("-n", "6", "-c", "2", "--goodput-ttft", "60000", "--json", str(file))
    code, output = invoke(server.url, *arguments)
    assert code == 0, output
    report = json.loads(file.read_text())
    assert (report["requests"], report["output_tokens"], report["good"]) == (6, 24, 1.0)
    assert "6 of 6" in output
    assert {body["model"] for body in server.asked} == {"first"}
    assert len(server.asked) == 1 + 1 + 6  # ignore_eos, warm-up, the run


def test_a_server_that_refuses_ignore_eos_is_measured_without(server: OpenAIServer) -> None:
    server.script = lambda body: refusal(400, "no") if "ignore_eos" in body else words(4)
    code, output = invoke(server.url, "-n", "2")
    assert code == 0, output
    assert all("ignore_eos" not in body for body in server.asked[1:])


def test_a_server_that_refuses_everything_is_told_in_its_words(server: OpenAIServer) -> None:
    server.script = lambda body: refusal(400, "token_out_of_range")
    result = CliRunner().invoke(app, ["bench", server.url, "-n", "2", "--token-ids", "500"])
    assert isinstance(result.exception, ConfigurationError)
    assert "token_out_of_range" in str(result.exception)


def test_prompts_may_be_token_ids_where_the_endpoint_takes_them(server: OpenAIServer) -> None:
    code, output = invoke(server.url, "-n", "2", "--token-ids", "500", "--input-tokens", "9")
    assert code == 0, output
    assert {len(body["prompt"]) for body in server.asked} == {9}
    code, output = invoke(server.url, "--endpoint", "chat", "--token-ids", "500")
    assert code == 2
    assert "only completions" in output


def test_embeddings_are_asked_in_texts_of_many_lengths(
    server: OpenAIServer, tmp_path: Path
) -> None:
    server.script = lambda body: embeddings(body, [1.0])
    server.models = [{"id": "chats"}, {"id": "embeds", "capabilities": ["embeddings"]}]
    file = tmp_path / "report.json"
    arguments = ("-n", "6", "-c", "2", "--inputs", "3", "--longest", "40", "--json", str(file))
    code, output = invoke(server.url, "--embeddings", *arguments)
    assert code == 0, output
    assert "6 of 6" in output
    assert json.loads(file.read_text())["inputs"] == 18
    warm, *asked = server.asked
    assert len(warm["input"]) == 1
    assert len(asked) == 6
    assert {body["model"] for body in server.asked} == {"embeds"}
    assert all(8 <= len(text.split()) <= 40 for body in asked for text in body["input"])


def test_a_server_without_embeddings_is_exit_code_1(server: OpenAIServer) -> None:
    server.script = lambda body: refusal(404, "not_found")
    code, output = invoke(server.url, "--embeddings", "-n", "2")
    assert code == 1
    assert "status 404 not_found" in output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--embeddings", "--output-tokens", "5"), "--output-tokens"),
        (("--embeddings", "--no-ignore-eos"), "--ignore-eos"),
        (("--longest", "9"), "--longest"),
        (("--embeddings", "--shortest", "9", "--longest", "8"), "--shortest"),
    ],
)
def test_options_that_mean_nothing_are_refused_by_name(
    arguments: tuple[str, ...], words: str
) -> None:
    code, output = invoke("http://127.0.0.1:9", *arguments)
    assert code == 2
    assert words in output
