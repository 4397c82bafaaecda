"""`GET /stream` whose connection is cut: the client reads on, from whichever worker it reaches."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from box import wait_until
from server import Server

ASKED = {"prompt": "Once upon", "max_tokens": 300, "temperature": 0, "ignore_eos": "true"}


def events(lines: Iterator[str]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Id, name and payload of each event."""
    event_id = name = ""
    for line in lines:
        key, _, value = line.partition(": ")
        if key == "id":
            event_id = value
        elif key == "event":
            name = value
        elif key == "data":
            yield event_id, name, json.loads(value)
            event_id = name = ""


def generations(pair: Server) -> int:
    """How many generations ended, in all workers."""
    name = "llmserve_e2e_request_latency_seconds_count"
    lines = httpx.get(pair.url + "/metrics").text.splitlines()
    return sum(int(float(line.rpartition(" ")[2])) for line in lines if line.startswith(name))


def texts(found: Iterable[tuple[str, str, dict[str, Any]]]) -> str:
    return "".join(payload["token"] for _, name, payload in found if not name)


def begin(pair: Server, stream_id: str, seen: int) -> list[str]:
    """The ids of so many events, before the connection is cut."""
    ids = []
    headers = {"X-Request-ID": stream_id}
    with httpx.stream("GET", pair.url + "/stream", params=ASKED, headers=headers) as answer:
        for event_id, _, _ in events(answer.iter_lines()):
            ids.append(event_id)
            if len(ids) == seen:
                break
    return ids


@pytest.mark.parametrize("last", ["nobody/3", "nobody", "x/99999999999999999999", "/", "7"])
def test_a_stream_that_is_unknown_is_no_content(pair: Server, last: str) -> None:
    headers = {"Last-Event-ID": last}
    answer = httpx.get(pair.url + "/stream", params=ASKED, headers=headers)
    assert (answer.status_code, answer.content) == (204, b"")
    assert httpx.get(pair.url + "/stream/nobody").status_code == 204


def test_a_cut_stream_is_read_on_by_either_worker_and_generated_once(pair: Server) -> None:
    before = generations(pair)
    stream_id = uuid4().hex
    seen = begin(pair, stream_id, 3)
    told: list[list[Any]] = []
    for _ in range(12):  # each connection finds a worker of its own
        headers = {"Last-Event-ID": seen[-1]}
        answer = httpx.get(pair.url + "/stream", params=ASKED, headers=headers)
        assert answer.status_code == 200
        told.append(list(events(iter(answer.text.splitlines()))))
    assert all(one == told[0] for one in told)
    rest = told[0]
    assert rest[-1][1] == "done"
    assert rest[-1][2]["finish_reason"] == "length"
    first, last = (int(each.rpartition("/")[2]) for each in (rest[0][0], rest[-1][0]))
    assert first == int(seen[-1].rpartition("/")[2]) + 1
    whole = list(events(iter(httpx.get(f"{pair.url}/stream/{stream_id}").text.splitlines())))
    assert [each[0] for each in whole[:3]] == seen
    assert whole[3:] == rest
    over = {"Last-Event-ID": f"{stream_id}/{last}"}
    assert httpx.get(pair.url + "/stream", params=ASKED, headers=over).status_code == 204
    wait_until(lambda: generations(pair) > before, "it is accounted for")
    assert generations(pair) == before + 1
    uncut = httpx.get(pair.url + "/stream", params=ASKED)
    assert texts(events(iter(uncut.text.splitlines()))) == texts(whole)


def test_a_stream_is_read_on_by_its_id_from_a_number(pair: Server) -> None:
    stream_id = "a/b:c"
    seen = begin(pair, stream_id, 2)
    answer = httpx.get(f"{pair.url}/stream/{stream_id}", params={"after": 1})
    assert next(events(iter(answer.text.splitlines())))[0] == seen[1]
    assert answer.text.startswith(": accepted\n\nretry: 1000\n\n")
