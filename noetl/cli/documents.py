"""Documents and values that the command line was given, and what is said about them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import typer

from noetl.cli.session import EXIT_USAGE, fail

if TYPE_CHECKING:
    from pathlib import Path

    from noetl.client import Remark
    from noetl.engine.playbook import Remark as PlaybookRemark


def read_document(file: Path) -> str:
    """The text of a file; says so and exits with 2 when it cannot be read or is no UTF-8."""
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        fail(f"{file} is not UTF-8 (byte {error.start})", EXIT_USAGE)
    except OSError as error:
        fail(f"{file}: {error.strerror}", EXIT_USAGE)


def remark_line(file: Path, remark: Remark | PlaybookRemark, severity: str = "") -> str:
    """``file:line:column: severity: step x: message``, without what is not known or said by the message."""
    place = f"{file}:{remark.line}:{remark.column}" if remark.line else str(file)
    names_step = remark.step is None or remark.message.startswith(f"Step '{remark.step}'")
    return f"{place}: {severity}{'' if names_step else f'step {remark.step}: '}{remark.message}"


def payload_of(assignments: list[str]) -> dict[str, Any]:
    """The values of ``--set NAME=VALUE``: JSON where it is some, else text."""
    payload: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"{assignment!r} is not NAME=VALUE", param_hint="--set")
        try:
            payload[name] = orjson.loads(value)
        except orjson.JSONDecodeError:
            payload[name] = value
    return payload
