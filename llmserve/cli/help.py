"""How `--help` is laid out: plain lines, since boxes cut long names off."""

from __future__ import annotations

from typing import Any, Final

from typer.core import TyperCommand

WIDTH: Final = 100
CONTEXT: Final = {"max_content_width": WIDTH}
"""Of every command: lines are as wide as the terminal, up to this."""


class PlainCommand(TyperCommand):
    """Shows its options group by group."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write a section for arguments, one for options, and one for each group of settings."""
        sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                kind = "Arguments" if param.param_type_name == "argument" else "Options"
                title = getattr(param, "rich_help_panel", None) or kind
                sections.setdefault(title, []).append(record)
        for title, records in sections.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)
