"""Settings for people: a value without its secrets, and the README's table."""

from __future__ import annotations

from pydantic import SecretStr

from llmserve.settings.knobs import Settings


def shown(value: object) -> str:
    """A setting's value for people: secrets are only counted."""
    if isinstance(value, SecretStr):
        return "(set, not shown)"
    if isinstance(value, tuple):
        if any(isinstance(part, SecretStr) for part in value):
            return f"({len(value)} set, not shown)"
        return ", ".join(value) or "(none)"
    return "(not set)" if value is None else str(value)


def settings_table() -> str:
    """The settings as a Markdown table, for the README."""
    rows = ["| setting | default | meaning |", "| --- | --- | --- |"]
    for name, field in Settings.model_fields.items():
        default = shown(field.default)
        default = default if default.startswith("(") or not default else f"`{default}`"
        rows.append(f"| `{name}` | {default} | {field.description} |")
    return "\n".join(rows) + "\n"
