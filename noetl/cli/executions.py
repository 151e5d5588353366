"""`executions`, `events` and `pools`: what runs, what happened, and who works."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

import typer

from noetl.cli.documents import payload_of
from noetl.cli.follow import follow, table_of, view_of
from noetl.cli.session import Json, Server, ask, json_line, output, second, show, table

if TYPE_CHECKING:
    from noetl.client import ExecutionDetail, ExecutionEvent, NoetlClient

executions = typer.Typer(help="Executions of playbooks.", rich_markup_mode=None, no_args_is_help=True)


class Status(StrEnum):
    """What a list can be filtered by."""

    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


@executions.command("list")
def list_executions(
    limit: int = typer.Option(20, min=1, max=100, help="At most so many, 100 at the most."),
    offset: int = typer.Option(0, min=0, help="Leave out so many of the newest."),
    status: Status = typer.Option(None, case_sensitive=False, help="Only those in this state."),  # noqa: B008
    path: str = typer.Option(None, help="Part of the playbook's path; case does not matter."),
    catalog_id: int = typer.Option(None, help="Only those of this version of a playbook."),
    server: str = Server,
    json: bool = Json,
) -> None:
    """The newest executions."""
    found = ask(
        server,
        lambda client: client.executions.list(
            limit=limit, offset=offset, status=status, path=path, catalog_id=catalog_id
        ),
    )
    rows = [
        (item.execution_id, item.path or "", item.status, second(item.started_at), _took(item.duration_seconds))
        for item in found
    ]
    show(found, json, table(("execution", "path", "status", "started", "took"), rows, right=("took",)))


@executions.command("show")
def show_execution(execution_id: int, server: str = Server, json: bool = Json) -> None:
    """One execution and its steps; `events` prints everything that happened."""
    detail = ask(server, lambda client: client.executions.get(execution_id))
    if json:
        show(detail, json, "")
        return
    console = output()
    console.print(table(("execution", str(execution_id)), _facts(detail)), highlight=False)
    console.print()
    view = view_of(detail)
    console.print(table_of(view, detail.completed_at or detail.events[-1].created_at))
    if view.result is not None:
        console.print_json(data=view.result)


@executions.command("start")
def start(
    path: str,
    version: int = typer.Option(None, help="The newest by default."),
    set_: list[str] = typer.Option([], "--set", help="NAME=VALUE laid over the workload; VALUE may be JSON."),  # noqa: B008
    server: str = Server,
    json: bool = Json,
) -> None:
    """Start an execution of a registered playbook and print its id."""
    payload = payload_of(set_)
    started = ask(server, lambda client: client.executions.start(path, payload, version=version))
    show(started, json, str(started.execution_id))


@executions.command("follow")
def follow_execution(execution_id: int, server: str = Server, json: bool = Json) -> None:
    """Wait for the end of an execution, showing its steps. Exit code 0 if it completed, else 1."""
    view = ask(server, lambda client: follow(client, execution_id, None if json else output()))
    show(view.document(), json, view.status + (f": {view.error}" if view.error else ""))
    raise typer.Exit(0 if view.status == "COMPLETED" else 1)


@executions.command("events")
def events(
    execution_id: int,
    type_: str = typer.Option(None, "--type", help="Only events of this type, such as command.completed."),
    step: str = typer.Option(None, help="Only events of this step."),
    follows: bool = typer.Option(False, "--follow", "-f", help="Print new ones too, until the execution ends."),
    server: str = Server,
    json: bool = typer.Option(False, "--json", help="One JSON object a line."),
) -> None:
    """What happened in an execution, oldest first."""
    ask(server, lambda client: _print_events(client, execution_id, type_, step, follows=follows, json=json))


@executions.command("cancel")
def cancel(
    execution_id: int,
    reason: str = typer.Option(None, help="Recorded with the event."),
    cascade: bool = typer.Option(False, "--cascade", help="Also the executions that it started."),
    server: str = Server,
    json: bool = Json,
) -> None:
    """Cancel an execution."""
    cancelled = ask(server, lambda client: client.executions.cancel(execution_id, reason, cascade=cascade))
    show({"cancelled_executions": cancelled}, json, "\n".join(f"Execution {one} cancelled." for one in cancelled))


def pools(
    kind: str = typer.Option("worker_pool", help="worker_pool, server_api or broker."),
    status: str = typer.Option(None, help="Only those in this state, such as ready or offline."),
    server: str = Server,
    json: bool = Json,
) -> None:
    """The registered workers."""
    found = ask(server, lambda client: client.pools.list(kind=kind, status=status))
    rows = [(item.name, item.status, _pool(item.labels), second(item.heartbeat)) for item in found]
    show(found, json, table(("worker", "status", "pool", "last heartbeat"), rows))


async def _print_events(
    client: NoetlClient, execution_id: int, type_: str | None, step: str | None, *, follows: bool, json: bool
) -> None:
    if follows:
        async for event in client.executions.follow(execution_id):
            if type_ in (None, event.event_type) and step in (None, event.node_name):
                typer.echo(_event_text(event, json=json))
        return
    found = [event async for event in client.executions.events(execution_id, event_type=type_)]
    for event in sorted(found, key=lambda event: (event.created_at, event.event_id)):
        if step in (None, event.node_name):
            typer.echo(_event_text(event, json=json))


def _event_text(event: ExecutionEvent, *, json: bool) -> str:
    if json:
        return json_line(event).decode()
    when = event.created_at.isoformat(timespec="milliseconds").removesuffix("+00:00")
    text = f"{when}Z  {event.event_type:<20}  {event.node_name or '':<16}  {event.status:<10}"
    return f"{text}  {event.error}" if event.error else text.rstrip()


def _facts(detail: ExecutionDetail) -> list[tuple[str, object]]:
    facts: list[tuple[str, object]] = [
        ("playbook", f"{detail.path or '?'}{f' v{detail.version}' if detail.version else ''}"),
        ("status", detail.status),
        ("started", second(detail.started_at)),
        ("ended", second(detail.completed_at)),
        ("took", _took(detail.duration_seconds)),
        ("parent", detail.parent_execution_id),
        ("error", detail.error),
    ]
    return [(name, value) for name, value in facts if value not in (None, "")]


def _took(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.2f} s"


def _pool(labels: Any) -> str:
    """The pool for which a worker takes commands, as its labels tell."""
    return str(labels.get("pool_name") or "") if isinstance(labels, dict) else ""  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
