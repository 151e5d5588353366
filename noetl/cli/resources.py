"""`catalog`, `executions` and `pools`: looking at a running server, as tables or as JSON."""

from __future__ import annotations

import asyncio
from pathlib import Path  # noqa: TC003 (typer reads the annotations at run time)
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from noetl.cli.documents import read_document
from noetl.cli.follow import follow
from noetl.client import ApiError, NoetlClient

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

T = TypeVar("T")

Server = typer.Option("http://localhost:8082", "--server", envvar="NOETL_SERVER_URL", help="The server.")
Json = typer.Option(False, "--json", help="JSON instead of a table.")

catalog = typer.Typer(help="Registered playbooks.", rich_markup_mode=None)
executions = typer.Typer(help="Executions.", rich_markup_mode=None)


@catalog.command("register")
def register(file: Path, server: str = Server, json: bool = Json) -> None:
    """Register a document as the next version of its path."""
    content = read_document(file)
    entry = _ask(server, lambda client: client.register(content))
    _show(entry, json, f"{entry.path} version {entry.version}")


@catalog.command("list")
def list_catalog(server: str = Server, json: bool = Json) -> None:
    """All versions of all resources, newest first."""
    entries = _ask(server, lambda client: client.catalog())
    rows = [(entry.path, str(entry.version), entry.kind, _second(entry.created_at)) for entry in entries]
    _show(entries, json, _table(("path", "version", "kind", "registered"), rows))


@catalog.command("get")
def get(path: str, version: int = typer.Option(None), server: str = Server, json: bool = Json) -> None:
    """Print a document."""
    entry = _ask(server, lambda client: client.resource(path, version))
    _show(entry, json, entry.content or "")


@executions.command("list")
def list_executions(
    limit: int = 20,
    status: str = typer.Option(None, help="RUNNING, COMPLETED, FAILED or CANCELLED."),
    path: str = typer.Option(None, help="Part of the playbook's path."),
    server: str = Server,
    json: bool = Json,
) -> None:
    """The newest executions."""
    found = _ask(server, lambda client: client.executions(limit=limit, status=status, path=path))
    rows = [
        (str(item.execution_id), item.path or "", item.status, _second(item.started_at), item.duration_human or "")
        for item in found
    ]
    _show(found, json, _table(("execution", "path", "status", "started", "took"), rows))


@executions.command("show")
def show(execution_id: int, server: str = Server, json: bool = Json) -> None:
    """The events of an execution."""
    detail = _ask(server, lambda client: client.execution(execution_id))
    rows = [(event.created_at, event.event_type, event.node_name or "", event.status) for event in detail.events]
    _show(detail, json, _table(("time", "event", "step", "status"), rows))


@executions.command("follow")
def follow_execution(execution_id: int, server: str = Server, json: bool = Json) -> None:
    """Wait for the end of an execution, showing its steps."""
    view = _ask(server, lambda client: follow(client, str(execution_id), None if json else Console()))
    _show(view.document(), json, view.status)
    raise typer.Exit(0 if view.status == "COMPLETED" else 1)


@executions.command("cancel")
def cancel(
    execution_id: int,
    reason: str = typer.Option(None),
    cascade: bool = typer.Option(False, "--cascade", help="Also what it started."),
    server: str = Server,
) -> None:
    """Cancel an execution."""
    _ask(server, lambda client: client.cancel(execution_id, reason, cascade=cascade))
    typer.echo(f"Execution {execution_id} cancelled.")


def pools(server: str = Server, json: bool = Json) -> None:
    """The registered workers."""
    found = _ask(server, lambda client: client.pools())
    rows = [(pool.name, pool.status, _second(pool.heartbeat)) for pool in found]
    _show(found, json, _table(("worker", "status", "last heartbeat"), rows))


def _ask(server: str, question: Callable[[NoetlClient], Awaitable[T]]) -> T:
    async def ask() -> T:
        async with NoetlClient(server) as client:
            return await question(client)

    try:
        return asyncio.run(ask())
    except (ApiError, OSError) as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(1) from None


def _show(value: Any, json: bool, human: str | Table) -> None:
    if json:
        typer.echo(msgspec.json.format(msgspec.json.encode(value)).decode())
    elif isinstance(human, str):
        typer.echo(human)
    else:
        Console().print(human)


def _second(timestamp: str | None) -> str:
    """A timestamp as tables show it; the fractions are in the JSON."""
    return "" if timestamp is None else timestamp.partition(".")[0].removesuffix("Z") + "Z"


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for title in titles:
        table.add_column(title)
    for row in rows:
        table.add_row(*row)
    return table
