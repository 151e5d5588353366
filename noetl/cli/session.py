"""What all commands that ask a server have in common: its address, its refusals, tables and JSON."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar, cast

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from noetl.client import NoetlClient, NoetlClientError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

T = TypeVar("T")

DEFAULT_SERVER: Final = "http://localhost:8082"
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
WIDE: Final = 10_000
_EXACT: Final = 2**53
"""Integers beyond it are rounded by jq, browsers and whatever else reads JSON numbers as doubles."""

Server: Any = typer.Option(DEFAULT_SERVER, "--server", envvar="NOETL_SERVER_URL", help="The server.")
Json: Any = typer.Option(False, "--json", help="JSON instead of a table; large ids are strings in it.")


def ask(server: str, question: Callable[[NoetlClient], Awaitable[T]]) -> T:
    """Ask a server; prints its refusal, or that it does not answer, and exits with 1."""

    async def ask_it() -> T:
        async with NoetlClient(server) as client:
            return await question(client)

    try:
        return asyncio.run(ask_it())
    except NoetlClientError as error:
        fail(str(error))


def fail(message: str, code: int = EXIT_FAILED) -> NoReturn:
    """Print what is wrong in one line and exit."""
    typer.echo(f"Error: {message}", err=True)
    raise typer.Exit(code)


def show(value: Any, json: bool, human: str | Table) -> None:
    """Print an answer as JSON, or as people read it."""
    if json:
        typer.echo(msgspec.json.format(json_line(value)).decode())
    elif isinstance(human, str):
        typer.echo(human)
    else:
        output().print(human)


def output() -> Console:
    """Where answers go: as wide as the terminal, and wide enough for every line where there is none."""
    return Console() if sys.stdout.isatty() else Console(width=WIDE)


def json_line(value: Any) -> bytes:
    """Objects of the client as JSON in one line."""
    return msgspec.json.encode(_exact(msgspec.to_builtins(value)))


def table(titles: Sequence[str], rows: Iterable[Sequence[object]], right: Sequence[str] = ()) -> Table:
    """A table; the columns named in ``right`` are numbers. Cells are texts as they are, without markup."""
    built = Table(box=None, pad_edge=False)
    for title in titles:
        built.add_column(title, justify="right" if title in right else "left", no_wrap=title == "execution")
    for row in rows:
        built.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))
    return built


def second(moment: datetime | None) -> str:
    """A moment as tables show it; the fractions are in the JSON."""
    return "" if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _exact(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _exact(member) for name, member in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [_exact(item) for item in cast("list[Any]", value)]
    return str(value) if isinstance(value, int) and abs(value) > _EXACT else value
