"""The web pages' files: what browsers are told about them, and who gets the page at `/`."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import PurePosixPath

import pytest
from fake_engine import FakeEngine
from fastapi.testclient import TestClient

from llmserve.api.app import create_app
from llmserve.api.playground.files import FOLDER, MEDIA_TYPES, read_files
from llmserve.settings import Settings

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
IMPORT = re.compile(r'from "([^"]+)"')
PAGES = ["/", "/status"]


class Addresses(HTMLParser):
    """What a page loads, and what it has in itself."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.inline: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "style" or "style" in given or any(name.startswith("on") for name in given):
            self.inline.append(tag)
        if tag == "script":
            self.loaded.append(given.get("src") or "inline")
        if tag == "link":
            self.loaded.append(given["href"] or "")


def test_a_browser_gets_the_page_and_others_what_they_got_before(client: TestClient) -> None:
    page = client.get("/", headers=BROWSER)
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "Accept" in page.headers["vary"]
    for headers in ({}, {"Accept": "*/*"}, {"Accept": "application/json"}):
        assert client.get("/", headers=headers).text == "Ollama is running"
    assert client.head("/", headers=BROWSER).headers["content-type"].startswith("text/html")
    asked = client.post("/", headers=BROWSER, json={"inputs": 1}).json()
    assert asked["error_type"] == "validation", "POST / is TGI's, whoever asks"


@pytest.mark.parametrize("path", PAGES)
def test_a_page_loads_its_own_files_and_has_no_script_in_itself(
    client: TestClient, path: str
) -> None:
    addresses = Addresses(client.get(path, headers=BROWSER).text)
    assert addresses.inline == []
    assert len(addresses.loaded) > 4
    for address in addresses.loaded:
        assert address.startswith("playground/")
        assert client.get(f"/{address}").status_code == 200, address


def test_every_file_is_served_with_its_type_and_a_strict_policy(client: TestClient) -> None:
    for name in read_files():
        answer = client.get(f"/playground/{name}")
        assert (answer.status_code, answer.content) == (200, (FOLDER / name).read_bytes()), name
        kind = MEDIA_TYPES[PurePosixPath(name).suffix]
        assert answer.headers["content-type"].partition(";")[0] == kind
        told = answer.headers["content-security-policy"]
        policy = dict(part.split(maxsplit=1) for part in told.split("; "))
        assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"


def test_there_is_no_file_that_is_not_served() -> None:
    names = {p.relative_to(FOLDER).as_posix() for p in FOLDER.rglob("*") if p.is_file()}
    assert names == set(read_files())


def test_what_a_module_imports_is_there() -> None:
    files = read_files()
    for name, file in files.items():
        for imported in IMPORT.findall(file.content.decode() if name.endswith(".js") else ""):
            assert imported.startswith("."), f"{name} imports {imported}"
            assert (FOLDER / name).parent.joinpath(imported).resolve().is_file(), (name, imported)


def test_what_the_browser_has_is_not_sent_again(client: TestClient) -> None:
    first = client.get("/playground/js/chat.js")
    assert first.headers["cache-control"] == "no-cache"
    assert first.headers["content-encoding"] == "gzip"
    etag = first.headers["etag"]
    for known in (etag, f'"other", W/{etag}'):
        again = client.get("/playground/js/chat.js", headers={"If-None-Match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    changed = client.get("/playground/js/chat.js", headers={"If-None-Match": '"other"'})
    assert changed.status_code == 200


@pytest.mark.parametrize("name", ["routes.py", "..%2froutes.py", "js", "js/nothing.js", "%00"])
def test_nothing_else_can_be_read(client: TestClient, name: str) -> None:
    answer = client.get(f"/playground/{name}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


@pytest.mark.parametrize("path", ["/playground", "/playground/"])
def test_the_folder_leads_to_the_page(client: TestClient, path: str) -> None:
    answer = client.get(path, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (307, "/")


def test_the_pages_can_be_turned_off(engine: FakeEngine) -> None:
    with TestClient(create_app(Settings(playground=False))) as client:
        assert client.get("/", headers=BROWSER).text == "Ollama is running"
        for path in ("/status", "/playground/js/chat.js"):
            assert client.get(path).status_code == 404


def test_they_are_no_part_of_the_api(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert not [path for path in paths if "playground" in path or path == "/status"]
