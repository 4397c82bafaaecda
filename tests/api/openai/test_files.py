"""/v1/files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

OTHER = {"Authorization": "Bearer second"}
FORM = {"purpose": "batch"}


def uploaded(client: TestClient, content: bytes = b"{}\n", **fields: Any) -> dict[str, Any]:
    answer = client.post("/v1/files", files={"file": ("x.jsonl", content)}, data=FORM | fields)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def form(*parts: tuple[str, str]) -> bytes:
    """With the boundary `x`."""
    texts = [
        f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}\r\n'
        for name, text in parts
    ]
    return "".join([*texts, "--x--\r\n"]).encode()


def test_a_file_comes_back_as_it_was_sent(batching: TestClient) -> None:
    content = bytes(range(256)) * 500
    file = uploaded(batching, content)
    assert (file["object"], file["bytes"], file["purpose"]) == ("file", len(content), "batch")
    assert (file["filename"], file["status"]) == ("x.jsonl", "processed")
    assert batching.get(f"/v1/files/{file['id']}").json() == file
    assert batching.get(f"/v1/files/{file['id']}/content").content == content
    assert batching.get(f"/files/{file['id']}").json() == file, "also without /v1"
    assert [one["id"] for one in batching.get("/v1/files").json()["data"]] == [file["id"]]


def test_a_file_is_its_keys_alone(batching: TestClient) -> None:
    path = f"/v1/files/{uploaded(batching)['id']}"
    for method, of in (("GET", path), ("GET", path + "/content"), ("DELETE", path)):
        answer = batching.request(method, of, headers=OTHER)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "file_not_found")
    assert batching.get("/v1/files", headers=OTHER).json()["data"] == []


def test_a_deleted_file_is_gone(batching: TestClient, tmp_path: Path) -> None:
    file = uploaded(batching)
    assert batching.delete(f"/v1/files/{file['id']}").json() == {
        "id": file["id"], "object": "file", "deleted": True,
    }  # fmt: skip
    assert batching.get(f"/v1/files/{file['id']}/content").status_code == 404
    assert list((tmp_path / "jobs" / "files").iterdir()) == []


def test_when_a_file_expires_is_the_clients_choice(batching: TestClient) -> None:
    fields = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
    file = uploaded(batching, **fields)
    assert file["expires_at"] - file["created_at"] == 3600


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "purpose"),
        ({"purpose": "vision"}, "purpose"),
        (FORM | {"expires_after[anchor]": "created_at"}, "expires_after.seconds"),
        (
            FORM | {"expires_after[anchor]": "created_at", "expires_after[seconds]": "1"},
            "expires_after.seconds",
        ),
        (FORM | {"expires_after": "soon"}, "expires_after"),
    ],
)
def test_a_wrong_field_is_named_and_nothing_is_kept(
    batching: TestClient, tmp_path: Path, fields: dict[str, str], param: str
) -> None:
    answer = batching.post("/v1/files", files={"file": ("x", b"{}")}, data=fields)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert list((tmp_path / "jobs" / "files").iterdir()) == []


def test_a_field_that_nobody_knows_is_told(batching: TestClient) -> None:
    answer = batching.post(
        "/v1/files",
        files={"file": ("x", b"{}")},
        data=FORM | {"colour": "red"},
        headers={"Idempotency-Key": "k"},
    )
    assert answer.headers["x-ignored-fields"] == "colour, Idempotency-Key"


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"{}", "application/json"),
        (b"", "multipart/form-data"),
        (b"nothing", "multipart/form-data; boundary=x"),
        (form(("purpose", "batch")), "multipart/form-data; boundary=x"),
        (form(("file", "1"), ("file", "2")), "multipart/form-data; boundary=x"),
        (form(("purpose", "b" * 5000)), "multipart/form-data; boundary=x"),
    ],
)
def test_what_is_no_form_with_one_file_is_refused(
    batching: TestClient, tmp_path: Path, content: bytes, kind: str
) -> None:
    answer = batching.post("/v1/files", content=content, headers={"Content-Type": kind})
    assert answer.status_code == 400, answer.text
    assert list((tmp_path / "jobs" / "files").iterdir()) == []


def test_a_name_is_no_path(batching: TestClient) -> None:
    answer = batching.post("/v1/files", files={"file": ("../../etc/pass\x01wd", b"{}")}, data=FORM)
    assert "/" not in answer.json()["filename"]


def test_uploads_are_bounded_one_by_one_and_together(batching: TestClient) -> None:
    answer = batching.post("/v1/files", files={"file": ("x", b"x" * 200_000)}, data=FORM)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")
    for _ in range(5):
        uploaded(batching, b"x" * 190_000)
    answer = batching.post("/v1/files", files={"file": ("x", b"x" * 190_000)}, data=FORM)
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "quota_exceeded")


def test_where_nothing_is_stored_the_setting_is_named(client: TestClient) -> None:
    for method, path in (("GET", "/v1/files"), ("GET", "/v1/files/x"), ("GET", "/v1/batches")):
        answer = client.request(method, path)
        assert answer.status_code == 400
        assert "`jobs_dir`" in answer.json()["error"]["message"]
