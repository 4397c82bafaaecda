"""Whatever a client sends: a 4xx in OpenAI's shape, never a 500."""

from __future__ import annotations

import re

import httpx
import openai
import pytest
from server import Server

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
GENERATE = "/generate"
HELLO = '"messages":[{"role":"user","content":"hi"}]'

BODIES = [
    (GENERATE, "{", 400),
    (GENERATE, "", 400),
    (GENERATE, "[]", 400),
    (GENERATE, '"text"', 400),
    (GENERATE, "null", 400),
    (GENERATE, "{}", 400),
    (GENERATE, '{"prompt":""}', 400),
    (GENERATE, '{"prompt":7}', 400),
    (GENERATE, '{"prompt":null}', 400),
    (GENERATE, '{"prompt":"x","temperature":NaN}', 400),
    (GENERATE, '{"prompt":"x","temperature":Infinity}', 400),
    (GENERATE, '{"prompt":"x","temperature":-0.1}', 400),
    (GENERATE, '{"prompt":"x","temperature":1e308}', 400),
    (GENERATE, '{"prompt":"x","temperature":"hot"}', 400),
    (GENERATE, '{"prompt":"x","max_tokens":0}', 400),
    (GENERATE, '{"prompt":"x","max_tokens":-5}', 400),
    (GENERATE, '{"prompt":"x","max_tokens":1e400}', 400),
    (GENERATE, '{"prompt":"x","max_tokens":99999999999999999999999}', 400),
    (GENERATE, '{"prompt":"x","max_tokens":true}', 400),
    (GENERATE, '{"prompt":"x","seed":1.5}', 400),
    (GENERATE, '{"prompt":"x","seed":123456789012345678901234567890}', 400),
    (GENERATE, '{"prompt":"x","stop":""}', 400),
    (GENERATE, '{"prompt":"x","stop":[1]}', 400),
    (GENERATE, '{"prompt":"x","stop":' + str(["a"] * 17).replace("'", '"') + "}", 400),
    (GENERATE, '{"prompt":"x","timeout":0}', 400),
    (GENERATE, '{"prompt":"x","model":"nobody"}', 404),
    (GENERATE, '{"prompt":"\\ud800"}', 400),
    (GENERATE, b'{"prompt":"\xff\xfe"}', 400),
    (GENERATE, '{"prompt":' + "[" * 5000 + "]" * 5000 + "}", 400),
    (GENERATE, '{"prompt":"x","min_tokens":40,"max_tokens":3}', 400),
    (GENERATE, '{"prompt":"' + "word " * 20000 + '"}', 400),
    (CHAT, "{}", 400),
    (CHAT, '{"messages":[]}', 400),
    (CHAT, '{"messages":"hi"}', 400),
    (CHAT, '{"messages":[{}]}', 400),
    (CHAT, '{"messages":[{"role":"wizard","content":"hi"}]}', 400),
    (CHAT, '{"messages":[{"role":"user"}]}', 400),
    (CHAT, '{"messages":[{"role":"user","content":null}]}', 400),
    (CHAT, '{"messages":[{"role":"user","content":""}]}', 400),
    (CHAT, '{"messages":[{"role":"user","content":[{"type":"image_url"}]}]}', 400),
    (CHAT, "{" + HELLO + ',"n":0}', 400),
    (CHAT, "{" + HELLO + ',"n":100}', 400),
    (CHAT, "{" + HELLO + ',"n":1000000}', 400),
    (CHAT, "{" + HELLO + ',"stream_options":{"include_usage":true}}', 400),
    (CHAT, "{" + HELLO + ',"stream":true,"stream_options":{"include_usage":1}}', 400),
    (CHAT, "{" + HELLO + ',"max_tokens":1,"max_completion_tokens":2}', 400),
    (COMPLETIONS, '{"prompt":[]}', 400),
    (COMPLETIONS, '{"prompt":[[]]}', 400),
    (COMPLETIONS, '{"prompt":[""]}', 400),
    (COMPLETIONS, '{"prompt":["a",1]}', 400),
    (COMPLETIONS, '{"prompt":[-1]}', 400),
    (COMPLETIONS, '{"prompt":[2000000000]}', 400),
    (COMPLETIONS, '{"prompt":[1.5]}', 400),
]


@pytest.fixture(scope="module")
def server(guarded: Server) -> Server:
    return guarded


@pytest.fixture(scope="module")
def client(server: Server):  # type: ignore[no-untyped-def]
    headers = {"Authorization": "Bearer schlüssel".encode()}
    with httpx.Client(base_url=server.url, headers=headers, timeout=30) as running:
        yield running


def assert_error(answer: httpx.Response, status: int) -> dict[str, str | None]:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert answer.headers["x-request-id"]
    return error


@pytest.mark.parametrize(("path", "body", "status"), BODIES)
def test_a_bad_body_is_refused(
    client: httpx.Client, path: str, body: str | bytes, status: int
) -> None:
    headers = {"Content-Type": "application/json"}
    assert_error(client.post(path, content=body, headers=headers), status)


@pytest.mark.parametrize(
    "field",
    ["suffix", "audio", "documents", "use_beam_search"],
)
def test_a_known_field_that_is_not_supported_is_named(client: httpx.Client, field: str) -> None:
    body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
    error = assert_error(client.post(CHAT, json=body | {field: 1}), 400)
    assert error["param"] == field
    assert "not supported" in error["message"]
    for absence in (None, False, "", [], {}):
        assert client.post(CHAT, json=body | {field: absence}).status_code == 200


def test_a_list_of_a_million_mistakes_is_one_error(client: httpx.Client) -> None:
    for path, body in (
        (COMPLETIONS, '{"prompt":[' + ",".join(['""'] * 60_000) + "]}"),
        (COMPLETIONS, '{"prompt":[' + ",".join(["-1"] * 60_000) + "]}"),
        (CHAT, '{"messages":[' + ",".join(["{}"] * 60_000) + "]}"),
        (CHAT, '{"messages":[{"role":"user","content":[' + ",".join(["{}"] * 60_000) + "]}]}"),
    ):
        headers = {"Content-Type": "application/json"}
        assert_error(client.post(path, content=body, headers=headers), 400)
    assert client.get("/health").status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "param", "words"),
    [
        (CHAT, {"stream_options": {"include_usage": True}}, None, "`stream: true`"),
        (CHAT, {"max_tokens": 1, "max_completion_tokens": 2}, None, "send one of them"),
        (CHAT, {"messages": [{"role": "wizard", "content": "x"}]}, "messages.0.role", "user"),
        (CHAT, {"messages": [{"role": "user", "content": 7}]}, "messages.0.content", "string"),
        (CHAT, {"stop": ["a", 1]}, "stop.1", "string"),
        (CHAT, {"temperature": 9}, "temperature", "less than or equal to 2"),
        (COMPLETIONS, {"prompt": 7}, "prompt", "string"),
        (COMPLETIONS, {"prompt": ""}, "prompt", "at least 1 character"),
        (COMPLETIONS, {"prompt": []}, "prompt", "at least 1 item"),
        (COMPLETIONS, {"prompt": [[]]}, "prompt.0", "at least 1 item"),
        (COMPLETIONS, {"prompt": [True]}, "prompt.0", "valid integer"),
        (COMPLETIONS, {"prompt": [None]}, "prompt.0", "valid integer"),
        (COMPLETIONS, {"prompt": [1.0]}, "prompt.0", "valid integer"),
        (COMPLETIONS, {"prompt": [5, -1]}, "prompt.1", "greater than or equal to 0"),
        (COMPLETIONS, {"prompt": [-1]}, "prompt.0", "greater than or equal to 0"),
        (COMPLETIONS, {"prompt": [[5], [-1]]}, "prompt.1.0", "greater than or equal to 0"),
        (COMPLETIONS, {"prompt": [[5], "a"]}, "prompt.1", "valid list"),
        (COMPLETIONS, {"prompt": ["a", 1]}, "prompt.1", "valid string"),
        (COMPLETIONS, {"prompt": ["a", ""]}, "prompt.1", "at least 1 character"),
        (COMPLETIONS, {"prompt": [{}]}, "prompt.0", "valid integer"),
        (CHAT, {"n": 100}, "n", "split it"),
        (CHAT, {"logprobs": 1}, "logprobs", "boolean"),
        (CHAT, {"top_logprobs": 2}, "top_logprobs", "`logprobs: true`"),
        (CHAT, {"top_logprobs": 2, "logprobs": False}, "top_logprobs", "`logprobs: true`"),
        (CHAT, {"top_logprobs": 21, "logprobs": True}, "top_logprobs", "equal to 20"),
        (CHAT, {"top_logprobs": -1, "logprobs": True}, "top_logprobs", "equal to 0"),
        (COMPLETIONS, {"prompt": "x", "logprobs": True}, "logprobs", "integer"),
        (COMPLETIONS, {"prompt": "x", "logprobs": 6}, "logprobs", "equal to 5"),
        (COMPLETIONS, {"prompt": "x", "logprobs": -1}, "logprobs", "equal to 0"),
        (COMPLETIONS, {"prompt": "x", "top_logprobs": 1}, "top_logprobs", "is not a field"),
        (GENERATE, {"prompt": "x", "logprobs": 1}, "logprobs", "is not a field"),
        (CHAT, {"logit_bias": [1]}, "logit_bias", "dictionary"),
        (CHAT, {"logit_bias": {"the": 1}}, "logit_bias.the", "pattern"),
        (CHAT, {"logit_bias": {"-1": 1}}, "logit_bias", "pattern"),
        (CHAT, {"logit_bias": {"07": 1}}, "logit_bias.07", "pattern"),
        (CHAT, {"logit_bias": {"7": 100.5}}, "logit_bias.7", "equal to 100"),
        (CHAT, {"logit_bias": {"7": True}}, "logit_bias.7", "number"),
        (CHAT, {"logit_bias": {"7": None}}, "logit_bias.7", "number"),
        (CHAT, {"logit_bias": {"9999999999": 1}}, "logit_bias", "outside the vocabulary"),
        (COMPLETIONS, {"prompt": "x", "logit_bias": {"99999": 1}}, "logit_bias", "99999"),
        (GENERATE, {"prompt": "x", "logit_bias": {"99999": 1}}, "logit_bias", "99999"),
        (CHAT, {"logit_bias": {str(i): 1 for i in range(1025)}}, "logit_bias", "at most 1024"),
        (CHAT, {"logit_bias": {f"x{i}": 1 for i in range(9000)}}, "logit_bias", "at most 1024"),
    ],
)
def test_an_error_names_the_field_and_says_what_is_wrong(
    client: httpx.Client, path: str, body: dict[str, object], param: str | None, words: str
) -> None:
    hello = {"messages": [{"role": "user", "content": "hi"}]} if path == CHAT else {}
    error = assert_error(client.post(path, json=hello | body), 400)
    assert error["param"] == param
    assert words in str(error["message"])


OVERFLOW = (
    r"This model's maximum context length is (\d+) tokens\. However, you requested (\d+) tokens "
    r"\((\d+) in the messages, (\d+) in the completion\)\. "
    r"Please reduce the length of the messages or completion\."
)


def test_an_overflow_is_told_in_the_words_that_client_libraries_look_for(
    server: Server, client: httpx.Client
) -> None:
    """LiteLLM looks for the sentence, LangChain's JavaScript for the code in the message, and
    those that truncate read the numbers out of it."""
    error = assert_error(client.post(COMPLETIONS, json={"prompt": [5] * 5000}), 400)
    assert error["code"] == "context_length_exceeded"
    words = re.match(OVERFLOW, str(error["message"]))
    assert words is not None, error["message"]
    context, requested, prompt, completion = map(int, words.groups())
    assert (requested, prompt, completion) == (5016, 5000, 16)
    assert "context_length_exceeded" in str(error["message"])
    assert client.post(COMPLETIONS, json={"prompt": [5] * (context - 1)}).status_code == 200
    caller = openai.OpenAI(base_url=server.url + "/v1", api_key="k1", max_retries=0)
    with pytest.raises(openai.BadRequestError, match=OVERFLOW) as refused:
        caller.chat.completions.create(
            model="tiny", messages=[{"role": "user", "content": "word " * 20_000}], stream=True
        )
    assert refused.value.code == "context_length_exceeded"
    assert "1 in the completion" in refused.value.message


def test_keys_are_asked_for_over_http_and_websocket(server: Server) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic k1"}):
        answer = httpx.post(server.url + GENERATE, json={"prompt": "x"}, headers=headers)
        assert assert_error(answer, 401)["code"] == "invalid_api_key"
        assert answer.headers["www-authenticate"] == "Bearer"
        handshake = {
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "x3JJHMbDL1EzLkh9GBhXDw==",
        }
        refused = httpx.get(server.url + "/ws", headers=headers | handshake)
        assert refused.status_code == 401
        foreign = {"Origin": "https://evil.example", "Authorization": "Bearer k1"}
        refused = httpx.get(server.url + "/ws", headers=foreign | handshake)
        assert assert_error(refused, 403)["code"] == "forbidden"
    assert httpx.get(server.url + "/health").status_code == 200


def test_a_body_over_the_limit_is_413_declared_or_not(client: httpx.Client) -> None:
    large = b'{"prompt":"' + b"x" * 300_000 + b'"}'
    headers = {"Content-Type": "application/json"}
    assert_error(client.post(GENERATE, content=large, headers=headers), 413)
    pieces = (large[i : i + 50_000] for i in range(0, len(large), 50_000))
    error = assert_error(client.post(GENERATE, content=pieces, headers=headers), 413)
    assert error["code"] == "body_too_large"


def test_a_huge_or_odd_request_id_is_refused(client: httpx.Client) -> None:
    for request_id in ("x" * 129, "a b", "x" * 30_000):
        error = assert_error(client.get("/v1/models", headers={"X-Request-ID": request_id}), 400)
        assert error["param"] == "X-Request-ID"
    assert_error(client.get("/v1/models", headers={"X-Request-ID": "x" * 60_000}), 431)
    try:
        answer = client.get("/v1/models", headers={"X-Request-ID": "x" * 2**20})
    except httpx.TransportError:
        return  # the server hung up on a header of a megabyte: fine too
    assert 400 <= answer.status_code < 500


def test_unknown_routes_and_methods_have_the_shape(client: httpx.Client) -> None:
    assert_error(client.get("/nowhere"), 404)
    assert_error(client.delete("/generate"), 405)
    assert_error(client.get("/v1/models/nobody"), 404)
    assert_error(client.get("/stream"), 400)
    assert_error(client.get("/stream?prompt=x&max_tokens=abc"), 400)
    assert_error(client.get("/stream?prompt=x&echo=1"), 400)
    error = assert_error(client.get('/stream?prompt=x&logit_bias={"7":1}'), 400)
    assert error["param"] == "logit_bias"


def test_a_body_that_is_not_declared_as_json_is_explained(client: httpx.Client) -> None:
    answer = client.post(
        GENERATE, content=b'{"prompt":"x"}', headers={"Content-Type": "text/plain"}
    )
    assert "Content-Type: application/json" in str(assert_error(answer, 400)["message"])


@pytest.mark.parametrize("timeout", ["abc", "-1", "nan", "inf", "0"])
def test_a_bad_timeout_header_is_refused(client: httpx.Client, timeout: str) -> None:
    answer = client.post(GENERATE, json={"prompt": "x"}, headers={"X-Request-Timeout": timeout})
    assert assert_error(answer, 400)["param"] == "X-Request-Timeout"
