"""The chat page in a real browser, in front of a real server."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import PHONE, SECONDS, running_browser, violations, visiting
from needs import needs
from playwright.sync_api import Browser, Page, WebSocket, expect
from server import Server, idle_server

expect.set_options(timeout=SECONDS * 1000)

QUESTION = "Which port does the server use?"
LAST = ".message.assistant:last-child"
GROWTH = """() => {
    window.growth = [];
    const seen = () => document.querySelector(".running .said")?.textContent ?? "";
    new MutationObserver(() => {
        const text = seen();
        if (text && text !== window.growth.at(-1)) window.growth.push(text);
    }).observe(document.body, {subtree: true, childList: true, characterData: true});
}"""
"""Keeps each text that an answer has had while it was written."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as running:
        yield running


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Server]:
    """A server with keys, where one runs and one waits."""
    settings = {"api_keys": "k1", "max_running": 1, "max_waiting": 1}
    with idle_server(tmp_path_factory.mktemp("narrow"), tiny_model, **settings) as server:
        yield server
        server.wait_for_load(0, 0)
        assert "Traceback" not in server.log


@pytest.fixture
def page(browser: Browser, demo: Server) -> Iterator[Page]:
    with visiting(browser, demo.url) as opened:
        expect(opened.locator("#model option")).to_have_count(1)
        yield opened


def send(page: Page, text: str) -> None:
    page.get_by_label("Message", exact=True).fill(text)
    page.keyboard.press("Enter")


def option(page: Page, group: str, name: str, value: str) -> None:
    """Set a field of the settings panel."""
    if page.locator("body").get_attribute("data-panel") == "closed":
        page.get_by_role("button", name="Settings").click()
    page.locator(f"#group-{group}").evaluate("(details) => { details.open = true; }")
    field = page.locator(f"#option-{name}")
    if field.evaluate("(field) => field.localName") == "select":
        field.select_option(value)
    else:
        field.fill(value)


def endless(page: Page) -> None:
    """From now on an answer does not end by itself while a test watches it."""
    option(page, "format", "format", "schema")
    many = {"type": "array", "items": {"type": "integer"}, "minItems": 400}
    option(page, "format", "schema", json.dumps(many))


def test_an_answer_is_typed_token_by_token(page: Page) -> None:
    option(page, "sampling", "temperature", "0")
    page.evaluate(GROWTH)
    send(page, "Tell me a story.")  # long, as a busy browser shows several tokens at a time
    expect(page.locator(LAST + " .stats")).to_contain_text("tokens/s")
    said = page.locator(LAST + " .said").text_content() or ""
    growth = page.evaluate("window.growth")
    assert len(growth) > 3
    assert all(said.startswith(text) for text in growth)
    assert [len(text) for text in growth] == sorted(len(text) for text in growth)


def test_an_answer_survives_a_reload(page: Page) -> None:
    option(page, "sampling", "temperature", "0")
    send(page, QUESTION)
    expect(page.locator(LAST + " .stats")).to_contain_text("tokens/s")
    said = page.locator(LAST + " .said").text_content() or ""
    assert "8000" in said
    assert "first token after" in (page.locator(LAST + " .stats").text_content() or "")
    page.reload()
    expect(page.locator(".bubble")).to_have_text(QUESTION)
    expect(page.locator(LAST + " .said")).to_have_text(said)
    assert page.locator("#option-temperature").input_value() == "0"


@pytest.mark.parametrize("how", ["button", "escape"])
def test_stop_ends_the_generation_on_the_server(page: Page, demo: Server, how: str) -> None:
    cancelled = demo.metric("llmserve_request_cancelled_total")
    endless(page)
    send(page, "Tell me a story.")
    expect(page.locator(".running .said")).not_to_be_empty()
    demo.wait_for_load(1, 0)
    if how == "button":
        page.get_by_role("button", name="Stop", exact=True).click()
    else:
        page.keyboard.press("Escape")
    expect(page.locator(LAST + " .stats")).to_contain_text("stopped")
    demo.wait_for_load(0, 0)
    assert demo.metric("llmserve_num_requests_running") == 0
    assert demo.metric("llmserve_request_cancelled_total") == cancelled + 1
    expect(page.get_by_role("button", name="Send", exact=True)).to_be_visible()


def test_a_websocket_brings_the_same_answer_and_stops_it_too(page: Page, demo: Server) -> None:
    sockets: list[WebSocket] = []
    frames: list[dict[str, Any]] = []

    def opened(socket: WebSocket) -> None:
        sockets.append(socket)
        socket.on("framereceived", lambda payload: frames.append(json.loads(payload)))

    page.on("websocket", opened)
    option(page, "sampling", "temperature", "0")
    option(page, "answering", "transport", "websocket")
    send(page, QUESTION)
    expect(page.locator(LAST + " .stats")).to_contain_text("tokens/s")
    expect(page.locator(LAST + " .said")).to_contain_text("8000")
    assert len(sockets) == 1
    assert {frame["type"] for frame in frames} == {"chunk", "done"}
    endless(page)
    cancelled = demo.metric("llmserve_request_cancelled_total")
    send(page, "Tell me a long story.")
    expect(page.locator(".running .said")).not_to_be_empty()
    page.keyboard.press("Escape")
    expect(page.locator(LAST + " .stats")).to_contain_text("stopped")
    demo.wait_for_load(0, 0)
    assert demo.metric("llmserve_request_cancelled_total") == cancelled + 1


def test_a_message_is_edited_and_an_answer_made_again(page: Page) -> None:
    option(page, "sampling", "max_tokens", "8")
    send(page, "Once")
    expect(page.locator(LAST + " .stats")).to_contain_text("token")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".message")).to_have_count(2)
    expect(page.locator(LAST + " .stats")).to_contain_text("token")
    page.locator(".bubble").hover()
    page.get_by_role("button", name="Edit").click()
    page.locator("textarea.edit").fill("Twice")
    page.keyboard.press("Enter")
    expect(page.locator(".bubble")).to_have_text("Twice")
    expect(page.locator(LAST + " .stats")).to_contain_text("token")
    expect(page.locator(".message")).to_have_count(2)


def test_a_message_without_an_answer_can_be_sent_again(page: Page) -> None:
    page.route("**/v1/chat/completions", lambda route: route.abort())
    option(page, "sampling", "max_tokens", "8")
    send(page, "Hello")
    expect(page.get_by_role("alert")).to_contain_text("cannot be reached")
    page.unroute_all()
    page.reload()
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(LAST + " .stats")).to_contain_text("token")
    expect(page.locator(".message")).to_have_count(2)


def test_conversations_are_listed_renamed_deleted_and_carried_over(
    page: Page, tmp_path: Path
) -> None:
    option(page, "sampling", "max_tokens", "8")
    for text in ("The first one", "The second one"):
        send(page, text)
        expect(page.locator(LAST + " .stats")).to_contain_text("token")
        page.get_by_role("button", name="New conversation").click()
    titles = page.locator("#conversations .title")
    expect(titles).to_have_text(["The second one", "The first one"])
    titles.nth(1).hover()
    page.get_by_role("button", name="Rename").click()
    page.keyboard.type("Another name")
    page.keyboard.press("Enter")
    expect(titles).to_have_text(["The second one", "Another name"])
    with page.expect_download() as download:
        page.get_by_role("button", name="Export").click()
    file = tmp_path / "conversations.json"
    download.value.save_as(file)
    titles.first.hover()
    page.get_by_role("button", name="Delete").click()
    expect(titles).to_have_text(["Another name"])
    page.get_by_role("button", name="Undo").click()
    expect(titles).to_have_count(2)
    page.set_input_files("input[type=file]", file)
    expect(titles).to_have_count(4)
    page.set_input_files(
        "input[type=file]", {"name": "x", "mimeType": "text/plain", "buffer": b"{}"}
    )
    expect(page.locator(".toast").last).to_contain_text("no conversations of this page")


def test_the_panes_show_what_is_sent_and_check_it(page: Page) -> None:
    told = page.locator("#option-temperature").get_attribute("placeholder")
    assert told == "0.7", "what the model's folder says"
    option(page, "sampling", "temperature", "0")
    option(page, "format", "format", "schema")
    option(page, "format", "schema", '{"type": ')
    expect(page.locator("#problem-schema")).to_contain_text("Not valid JSON")
    send(page, "Fill in name and age as JSON: Anna is 7 years old.")
    expect(page.locator(".toast")).to_contain_text("cannot be sent")
    expect(page.locator("#option-schema")).to_be_focused()
    page.locator("#group-request summary").click()
    expect(page.locator("#request")).to_have_text("One of the settings cannot be sent.")
    page.locator("#group-request summary").click()
    page.locator("#group-format").get_by_role("button", name="Insert an example").click()
    expect(page.locator("#problem-schema")).to_be_hidden()
    page.locator("#group-request summary").click()
    expect(page.locator("#request")).to_contain_text("Anna")
    shown = json.loads(page.locator("#request").text_content() or "")
    assert shown["response_format"]["json_schema"]["schema"]["required"] == ["name", "age"]
    with page.expect_request("**/v1/chat/completions") as sent:
        page.get_by_role("button", name="Edit").click()
        page.keyboard.press("Enter")
    assert sent.value.post_data_json == shown
    expect(page.locator(LAST + " .stats")).to_contain_text("tokens")
    assert json.loads(page.locator(LAST + " .said").text_content() or "") == {
        "name": "Anna",
        "age": 7,
    }


@pytest.mark.parametrize(
    ("kind", "command"),
    [
        ("curl", ["bash", "-c"]),
        ("Python", [sys.executable, "-c"]),
        ("JavaScript", ["node", "--input-type=module", "-e"]),
    ],
)
def test_a_request_can_be_copied_as_a_program_that_runs(
    page: Page, kind: str, command: list[str]
) -> None:
    program = needs(command[0])
    option(page, "sampling", "temperature", "0")
    option(page, "sampling", "top_k", "3")
    page.locator("#group-request summary").click()
    page.get_by_label("Message", exact=True).fill(f'It\'s "{kind}". {QUESTION}')
    page.get_by_role("button", name=kind, exact=True).click()
    expect(page.locator("#request")).to_contain_text("Which port")
    text = page.locator("#request").text_content() or ""
    done = subprocess.run(
        [program, *command[1:], text], capture_output=True, text=True, timeout=60, check=True
    )
    # curl shows the events as they come, and the other two a line for each token, or none.
    said = "".join(re.findall(r'"content":"([^"]*)"', done.stdout)) or done.stdout.replace("\n", "")
    assert said.count("8000") == 1, done.stdout + done.stderr


def test_a_tool_is_called_and_told_its_result(page: Page) -> None:
    option(page, "sampling", "temperature", "0")
    page.locator("#group-tools").evaluate("(details) => { details.open = true; }")
    page.locator("#group-tools").get_by_role("button", name="Insert an example").click()
    send(page, "What is the weather in Paris?")
    expect(page.locator(".call")).to_contain_text("get_weather")
    expect(page.locator(".call pre")).to_contain_text("Paris")
    page.get_by_label("Result of get_weather").fill('{"sky": "sunny", "celsius": 21}')
    page.get_by_role("button", name="Send results").click()
    expect(page.locator(LAST + " .stats")).to_contain_text("tokens")
    expect(page.locator(".message.result")).to_contain_text("sunny")
    expect(page.locator(LAST + " .said")).not_to_be_empty()


def answer_with(page: Page, *deltas: dict[str, Any], end: str | None = None) -> None:
    """From now on a model says this; `end` takes the place of what ends a stream."""
    chunks = [{"choices": [{"index": 0, "delta": d, "finish_reason": None}]} for d in deltas]
    if end is None:
        chunks[-1]["choices"][0]["finish_reason"] = "stop"
        end = "data: [DONE]\n\n"
    body = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + end
    page.route(
        "**/v1/chat/completions",
        lambda route: route.fulfill(body=body, content_type="text/event-stream"),
    )


def test_a_stream_that_fails_keeps_what_came_and_says_why(page: Page) -> None:
    error = {"error": {"message": "the model failed", "code": "generation_failed"}}
    for end in (f"data: {json.dumps(error)}\n\n", ""):
        answer_with(page, {"content": "Half"}, end=end)
        send(page, "Hello")
        alert = page.get_by_role("alert")
        expect(alert).to_contain_text("the model failed" if end else "cut before the answer")
        expect(page.locator(".message.assistant").last.locator(".said")).to_have_text("Half")
        expect(page.locator(".message.assistant").last).to_contain_text("interrupted")
        page.unroute_all()
    option(page, "sampling", "max_tokens", "8")
    page.get_by_role("button", name="Retry").click()
    expect(page.locator(LAST + " .stats")).to_contain_text("token")
    expect(page.locator(".message")).to_have_count(4)


def test_what_a_model_thinks_is_folded_away(page: Page) -> None:
    answer_with(page, {"reasoning_content": "First *think*."}, {"content": "Then speak."})
    send(page, "Hello")
    expect(page.locator(LAST + " .said")).to_have_text("Then speak.")
    thoughts = page.get_by_text("First think.")
    expect(thoughts).to_be_hidden()
    page.get_by_text("Reasoning", exact=True).click()
    expect(thoughts).to_be_visible()
    with page.expect_request("**/v1/chat/completions") as sent:
        send(page, "Go on")
    told = [message["content"] for message in sent.value.post_data_json["messages"]]
    assert told == ["Hello", "Then speak.", "Go on"]


def test_a_reader_who_scrolled_away_is_left_where_he_is(page: Page) -> None:
    answer_with(page, {"content": "\n\n".join(f"Line {n}" for n in range(60))})
    send(page, "Hello")
    expect(page.get_by_text("Line 59", exact=True)).to_be_in_viewport()
    page.unroute_all()
    endless(page)
    send(page, "Go on")
    expect(page.locator(".running .said")).not_to_be_empty()
    page.locator("#thread").evaluate("(thread) => { thread.scrollTop = 0; }")
    expect(page.get_by_text("Line 0", exact=True)).to_be_in_viewport()
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(page.locator(LAST + " .stats")).to_contain_text("stopped")
    expect(page.get_by_text("Line 0", exact=True)).to_be_in_viewport()


def test_what_a_model_writes_is_never_run(browser: Browser, demo: Server) -> None:
    text = (
        '<img src=x onerror="window.hacked = 1"><script>window.hacked = 1</script>\n\n'
        "[here](javascript:window.hacked=1) ![there](https://elsewhere.example/x.png)\n\n"
        "```html\n<b onclick='x()'>code</b>\n```\n"
    )
    with visiting(browser, demo.url) as page:
        answer_with(page, {"content": text})
        send(page, "Be evil.")
        expect(page.locator(LAST + " figure code")).to_have_text("<b onclick='x()'>code</b>")
        expect(page.locator(LAST + " .said")).to_contain_text("<script>window.hacked")
        assert page.evaluate("window.hacked") is None
        assert page.locator(".prose :is(img, script, b, [onclick])").count() == 0
        links = page.locator(".prose a")
        assert [link.get_attribute("href") for link in links.all()] == [
            "https://elsewhere.example/x.png"
        ]


def test_a_phone_has_the_whole_of_it(browser: Browser, demo: Server) -> None:
    with visiting(browser, demo.url, viewport=PHONE, has_touch=True, is_mobile=True) as page:
        expect(page.locator("#sidebar")).to_be_hidden()
        send(page, QUESTION)
        expect(page.locator(LAST + " .stats")).to_contain_text("token")
        overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert page.evaluate(overflow) == 0
        page.get_by_role("button", name="Conversations").tap()
        expect(page.locator("#conversations")).to_contain_text(QUESTION[:20])
        assert page.evaluate(overflow) == 0
        page.keyboard.press("Escape")
        expect(page.locator("#sidebar")).to_be_hidden()
        page.get_by_role("button", name="Settings").tap()
        expect(page.locator("#panel")).to_be_visible()
        assert page.evaluate(overflow) == 0
        page.touchscreen.tap(5, 400)
        expect(page.locator("#panel")).to_be_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_use_it(browser: Browser, demo: Server, scheme: str) -> None:
    with visiting(browser, demo.url, color_scheme=scheme) as page:
        expect(page.locator("#model option")).to_have_count(1)
        assert violations(page) == []
        option(page, "sampling", "max_tokens", "30")
        for group in ("format", "tools", "answering", "request"):
            page.locator(f"#group-{group}").evaluate("(details) => { details.open = true; }")
        option(page, "format", "format", "schema")
        option(page, "format", "schema", "{")
        assert violations(page) == []
        option(page, "format", "format", "")
        send(page, "Tell me a story.")
        expect(page.locator(LAST + " .stats")).to_contain_text("tokens")
        assert violations(page) == []
        page.get_by_role("button", name="Key", exact=True).click()
        assert violations(page) == []


def test_a_key_is_asked_for_and_a_wrong_one_refused(browser: Browser, narrow: Server) -> None:
    # The browser itself complains of a socket that is refused.
    with visiting(browser, narrow.url, expected="WebSocket connection to") as page:
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text("only requests with a key")
        dialog.get_by_label("Key", exact=True).fill("wrong")
        dialog.get_by_role("button", name="Use").click()
        for transport in ("sse", "websocket"):
            option(page, "answering", "transport", transport)
            send(page, "Hello")
            expect(page.get_by_role("alert")).to_contain_text("401 invalid_api_key")
        page.get_by_role("button", name="Enter a key").click()
        dialog.get_by_label("Key", exact=True).fill("k1")
        dialog.get_by_role("button", name="Use").click()
        expect(page.locator("#model option")).to_have_count(1)
        option(page, "sampling", "max_tokens", "5")
        option(page, "answering", "transport", "sse")
        page.get_by_role("button", name="Retry").click()
        expect(page.locator(LAST + " .stats")).to_contain_text("token")
        assert page.evaluate("sessionStorage.getItem('llmserve.key')") == "k1"
        assert page.evaluate("localStorage.getItem('llmserve.key')") is None
        page.locator("#group-request summary").click()
        page.get_by_role("button", name="curl", exact=True).click()
        expect(page.locator("#request")).to_contain_text("Bearer YOUR_KEY")


@pytest.mark.parametrize("transport", ["sse", "websocket"])
def test_who_waits_is_told_and_who_must_wait_sees_the_time_count_down(
    browser: Browser, narrow: Server, transport: str
) -> None:
    with (
        visiting(browser, narrow.url) as first,
        visiting(browser, narrow.url) as second,
        visiting(browser, narrow.url) as third,
    ):
        for page in (first, second, third):
            dialog = page.get_by_role("dialog")
            dialog.get_by_label("Key", exact=True).fill("k1")
            dialog.get_by_role("button", name="Use").click()
            expect(page.locator("#model option")).to_have_count(1)
            option(page, "answering", "transport", transport)
        endless(first)
        send(first, "The only one who runs.")
        expect(first.locator(".running .said")).not_to_be_empty()
        option(second, "sampling", "max_tokens", "5")
        send(second, "The only one who waits.")
        expect(second.locator(".waiting")).to_contain_text("requests ahead: 0")
        option(third, "sampling", "max_tokens", "5")
        send(third, "One too many.")
        expect(third.get_by_role("alert")).to_contain_text("429 queue_full")
        expect(third.locator(".countdown")).to_have_text(re.compile("may take it in [0-9]+ s"))
        first.keyboard.press("Escape")
        expect(second.locator(LAST + " .stats")).to_contain_text("token")
        third.get_by_role("button", name="Retry").click()
        expect(third.locator(LAST + " .stats")).to_contain_text("token")
        expect(third.get_by_role("alert")).to_have_count(0)


def test_it_can_be_used_by_the_keyboard_alone(page: Page) -> None:
    expect(page.get_by_label("Message", exact=True)).to_be_focused()
    skip = page.get_by_text("Skip to the message field")
    skip.focus()
    expect(skip).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.get_by_label("Message", exact=True)).to_be_focused()
    page.keyboard.type("One")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("two")
    option(page, "sampling", "max_tokens", "8")
    page.get_by_label("Message", exact=True).focus()
    page.keyboard.press("Enter")
    expect(page.locator(".bubble")).to_have_text("One\ntwo")
    expect(page.locator(LAST + " .stats")).to_contain_text("token")
    # Once, and not token by token.
    expect(page.locator("#announcer")).to_have_text(re.compile("^Answer: "))


def test_it_speaks_chinese_and_remembers_the_theme(browser: Browser, demo: Server) -> None:
    with visiting(browser, demo.url, locale="zh-CN") as page:
        expect(page.get_by_role("button", name="新对话")).to_be_visible()
        assert page.evaluate("document.documentElement.lang") == "zh-CN"
        page.locator("#language").select_option("en")
        expect(page.get_by_role("button", name="New conversation")).to_be_visible()
        page.locator("#theme").select_option("dark")
        page.reload()
        expect(page.get_by_role("button", name="New conversation")).to_be_visible()
        paper = "getComputedStyle(document.documentElement).backgroundColor"
        assert page.evaluate(paper) == "rgb(21, 23, 28)"
