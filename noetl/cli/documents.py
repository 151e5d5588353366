"""Reading a document that the command line was given."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from pathlib import Path


def read_document(file: Path) -> str:
    """The text of a file; says so and exits with 2 when it cannot be read or is no UTF-8."""
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        typer.echo(f"Error: {file} is not UTF-8 (byte {error.start})", err=True)
    except OSError as error:
        typer.echo(f"Error: {file}: {error.strerror}", err=True)
    raise typer.Exit(2)
