"""A file that comes as multipart/form-data, read as it comes: its content is never whole in
memory."""

from __future__ import annotations

import asyncio
from typing import Any, BinaryIO, Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from llmserve.api.errors import ClientGone
from llmserve.errors import InvalidRequest

MAX_FIELDS: Final = 16
MAX_FIELD_BYTES: Final = 4096
MAX_FILENAME: Final = 255


class Upload:
    """Writes the part `file` to `content` and keeps the other fields.

    Attributes:
        fields: by name, such as `purpose` or `expires_after[seconds]`.
        filename: of the part `file`; `None` until it came.
        size: its bytes so far.
    """

    def __init__(self, content: BinaryIO) -> None:
        self.fields: dict[str, str] = {}
        self.filename: str | None = None
        self.size = 0
        self._content = content
        self._header_name = b""
        self._header_value = b""
        self._disposition: dict[bytes, bytes] = {}
        self._value = bytearray()

    async def read(self, request: Request) -> None:
        """To the end of the body.

        Raises:
            InvalidRequest: it is not multipart/form-data with one part `file`.
            ClientGone: the client hung up.
        """
        parser = self._parser(request.headers.get("content-type", ""))
        try:
            async for part in request.stream():
                await asyncio.to_thread(parser.write, part)
            await asyncio.to_thread(parser.finalize)
        except FormParserError as error:
            raise InvalidRequest(f"the form cannot be read: {error}") from None
        except ClientDisconnect:
            raise ClientGone from None
        if self.filename is None:
            raise InvalidRequest("the form has no part `file`", param="file")

    def _parser(self, content_type: str) -> MultipartParser:
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if kind != b"multipart/form-data" or not boundary:
            raise InvalidRequest(
                "a file comes as multipart/form-data; send it with `-F file=@FILE -F purpose=batch`"
            )
        return MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_part_data": self._on_data,
                "on_part_end": self._end,
            },
        )

    @property
    def _name(self) -> str:
        return self._disposition.get(b"name", b"").decode(errors="replace")

    def _begin(self) -> None:
        self._disposition = {}
        self._value.clear()

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _on_header_end(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            _, self._disposition = parse_options_header(self._header_value)
            if self._name == "file":
                self._begin_file()
        self._header_name = self._header_value = b""

    def _begin_file(self) -> None:
        if self.filename is not None:
            raise InvalidRequest("the form has two parts `file`; send one", param="file")
        given = self._disposition.get(b"filename", b"").decode(errors="replace")
        plain = "".join(c for c in given.replace("\\", "/").rpartition("/")[2] if c.isprintable())
        self.filename = plain[:MAX_FILENAME] or "upload.jsonl"

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._name == "file":
            self._content.write(data[start:end])
            self.size += end - start
            return
        self._value += data[start:end]
        if len(self._value) > MAX_FIELD_BYTES or len(self.fields) >= MAX_FIELDS:
            raise InvalidRequest(
                f"a form may have {MAX_FIELDS} fields of {MAX_FIELD_BYTES} bytes beside its file"
            )

    def _end(self) -> None:
        if self._name != "file":
            self.fields[self._name] = self._value.decode(errors="replace")

    def nested(self) -> dict[str, Any]:
        """The fields as JSON would have them: `a[b]` is a field of the object `a`."""
        whole: dict[str, Any] = {}
        for name, text in self.fields.items():
            outer, is_inner, inner = name.removesuffix("]").partition("[")
            value: str | int = int(text) if text.isdecimal() and len(text) < MAX_FIELDS else text
            if is_inner:
                inside = whole.setdefault(outer, {})
                if isinstance(inside, dict):
                    inside[inner] = value
            else:
                whole[outer] = value
        return whole
