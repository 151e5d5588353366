"""The effective settings as rows for people, secrets masked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import msgspec

from noetl.config.secret import MASK, Secret
from noetl.config.settings import DatabaseSettings, Settings
from noetl.config.variable import variables_of

if TYPE_CHECKING:
    from collections.abc import Iterator


class SettingRow(msgspec.Struct, frozen=True):
    """One line of `noetl-server config`: ``value`` is masked when secret; ``why`` is empty for derived values."""

    group: str
    variable: str
    value: str
    default: bool
    why: str


def effective_settings(settings: Settings) -> list[SettingRow]:
    """Every setting as it is in force, in the order of declaration; derived ones carry their field's name.

    ``default`` says that the value equals the declared default, wherever it came from.
    """
    return list(_rows(settings))


def _rows(group: msgspec.Struct) -> Iterator[SettingRow]:
    declared = dict(variables_of(type(group)))
    title = (type(group).__doc__ or "").strip()
    for field in msgspec.structs.fields(type(group)):
        value = getattr(group, field.name)
        variable = declared.get(field.name)
        if isinstance(value, msgspec.Struct) and (
            isinstance(group, Settings) or not isinstance(value, DatabaseSettings)
        ):  # fmt: skip
            yield from _rows(value)
        elif variable is not None:
            masked = MASK if variable.secret and value else shown_value(value)
            yield SettingRow(title, variable.name, masked, value == variable.default, variable.why)
        elif field.name != "notices":
            yield SettingRow(title, f"({field.name})", shown_value(value), False, "")


def shown_value(value: object) -> str:
    """A value for people: secrets masked, databases by address, absence as ``-``."""
    match value:
        case None | "" | ():
            return "-"
        case Secret():
            return MASK if value else "-"
        case bool():
            return "true" if value else "false"
        case float():
            return f"{value:g}"
        case tuple():
            return ", ".join(shown_value(item) for item in cast("tuple[Any, ...]", value))
        case dict():
            return msgspec.json.encode(value).decode() if value else "-"
        case DatabaseSettings():
            return f"{value.user}@{value.host}:{value.port}/{value.database}"
        case _:
            return str(value)
