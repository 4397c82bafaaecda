"""Settings for people: values without secrets, and the documentation's tables."""

from __future__ import annotations

from pydantic import BaseModel, SecretStr

from llmserve.settings.settings import GROUPS


def shown(value: object) -> str:
    """A setting's value for people; of secrets only their number."""
    if isinstance(value, SecretStr):
        return "(set, not shown)"
    if isinstance(value, tuple):
        if any(isinstance(part, SecretStr) for part in value):
            return f"({len(value)} set, not shown)"
        return ", ".join(value) or "(none)"
    return "(not set)" if value is None else str(value)


def settings_table() -> str:
    """The settings as Markdown tables, one for each group."""
    return "\n".join(_table(title, group) for title, group in GROUPS.items())


def _table(title: str, group: type[BaseModel]) -> str:
    rows = [f"### {title}", "", str(group.__doc__), ""]
    rows += ["| setting | default | meaning |", "| --- | --- | --- |"]
    for name, field in group.model_fields.items():
        default = shown(field.default)
        default = default if default.startswith("(") or not default else f"`{default}`"
        rows.append(f"| `{name}` | {default} | {field.description} |")
    return "\n".join(rows) + "\n"
