"""Nothing that a terminal obeys is left."""

from __future__ import annotations

import pytest

from llmserve.printable import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2Jgone\x07", r"\x1b[2Jgone\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("all\rnew", r"all\rnew"),
        ("\x7f\x00", r"\x7f\x00"),
        ("\ud800", r"\ud800"),
        ("lines\n\tand ünïcode 👩‍💻", "lines\n\tand ünïcode 👩‍💻"),
        (None, "None"),
    ],
)
def test_control_characters_are_escaped_and_all_else_stays(text: object, shown: str) -> None:
    assert printable(text) == shown
    assert printable(text).encode()
