"""`dev` and `run`: NoETL on one machine, and one playbook from file to result."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path  # noqa: TC003 (typer reads the annotations at run time)
from typing import Any, Final

import orjson
import typer
from rich.console import Console

from noetl.cli.documents import payload_of, read_document, remark_line
from noetl.cli.follow import ExecutionView, follow
from noetl.cli.session import DEFAULT_SERVER, EXIT_FAILED, EXIT_USAGE, fail
from noetl.client import ApiError, NoetlClient, NoetlClientError
from noetl.dev.services import ServiceError
from noetl.dev.stack import DevStack, default_data_directory
from noetl.engine.playbook import check_playbook

EXIT_INTERRUPTED: Final = 130
_OUTCOMES: Final = {"COMPLETED": 0, "FAILED": EXIT_FAILED, "CANCELLED": EXIT_FAILED}


def dev(
    port: int = typer.Option(8082, help="Port of the server."),
    data: Path = typer.Option(None, help="Folder of the data; it survives restarts."),  # noqa: B008
) -> None:
    """Run everything on this machine: PostgreSQL, NATS, the server and a small worker, all on 127.0.0.1."""
    stack = DevStack(data or default_data_directory(), port=port)
    try:
        asyncio.run(_keep_running(stack, Console()))
    except asyncio.CancelledError:
        return
    except ServiceError as error:
        fail(str(error))


async def _keep_running(stack: DevStack, console: Console) -> None:
    _cancel_on_signals()
    async with AsyncExitStack() as exits:
        with console.status("Starting PostgreSQL, NATS, the server and a worker ..."):
            await exits.enter_async_context(stack)
        console.print(_banner(stack), highlight=False)
        try:
            await stack.during(asyncio.Event().wait())
        finally:
            console.print("Stopping ...")


def run(
    file: Path = typer.Argument(..., exists=True, dir_okay=False, readable=True, help="The playbook."),  # noqa: B008
    set_: list[str] = typer.Option([], "--set", help="NAME=VALUE laid over the workload; VALUE may be JSON."),  # noqa: B008
    server: str = typer.Option(
        None, envvar="NOETL_SERVER_URL", help="A running server; else the one on port 8082, else one of our own."
    ),
    json: bool = typer.Option(False, "--json", help="One JSON document at the end instead of the live view."),
    timeout: float = typer.Option(0.0, help="Give up after so many seconds and cancel the execution."),
) -> None:
    """Register a playbook, execute it, and follow it to its end. Exit code 0 completed, 1 failed, 2 not accepted."""
    text = read_document(file)
    payload = payload_of(set_)
    problems = check_playbook(text)
    if problems:
        for problem in problems:
            typer.echo(remark_line(file, problem), err=True)
        raise typer.Exit(EXIT_USAGE)
    console = Console(stderr=json, quiet=json)
    try:
        view = asyncio.run(_run(text, payload, server, console, show=not json, seconds=timeout or None))
    except asyncio.CancelledError:
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except TimeoutError:
        fail(f"no end after {timeout:g} s; the execution was cancelled")
    except ApiError as error:
        fail(str(error), EXIT_USAGE if error.status < 500 else EXIT_FAILED)
    except (ServiceError, OSError) as error:
        fail(str(error))
    else:
        _report(view, console, json=json)


async def _run(
    text: str, payload: dict[str, Any], server: str | None, console: Console, *, show: bool, seconds: float | None
) -> ExecutionView:
    _cancel_on_signals()
    async with NoetlClient(server or DEFAULT_SERVER) as client:
        if server is not None or await client.is_healthy():
            return await _execute(client, text, payload, console, show=show, seconds=seconds)
    async with AsyncExitStack() as exits:
        with console.status("No server on port 8082: starting one for this run ..."):
            stack = await exits.enter_async_context(DevStack())
        own = await exits.enter_async_context(NoetlClient(stack.url))
        return await stack.during(_execute(own, text, payload, console, show=show, seconds=seconds))


async def _execute(
    client: NoetlClient, text: str, payload: dict[str, Any], console: Console, *, show: bool, seconds: float | None
) -> ExecutionView:
    """Register, execute and follow; whoever gives up waiting also cancels the execution."""
    registered = await client.catalog.register(text)
    started = await client.executions.start(registered.path, payload, version=registered.version)
    if show:
        console.print(f"[dim]{registered.path} v{registered.version}, execution {started.execution_id}[/dim]")
    try:
        async with asyncio.timeout(seconds):
            return await follow(client, started.execution_id, console if show else None)
    except (TimeoutError, asyncio.CancelledError, NoetlClientError):
        try:
            await client.executions.cancel(started.execution_id, "the command line gave up")
        except NoetlClientError as error:
            typer.echo(f"Execution {started.execution_id} could not be cancelled: {error}", err=True)
        raise


def _report(view: ExecutionView, console: Console, *, json: bool) -> None:
    if json:
        sys.stdout.buffer.write(orjson.dumps(view.document(), option=orjson.OPT_INDENT_2) + b"\n")
    else:
        colour = "green" if view.status == "COMPLETED" else "red"
        console.print(f"[bold {colour}]{view.status}[/bold {colour}]")
        if view.error:
            console.print(view.error, style="red", markup=False)
        elif view.result is not None:
            console.print_json(orjson.dumps(view.result).decode())
    raise typer.Exit(_OUTCOMES.get(view.status, EXIT_FAILED))


def _banner(stack: DevStack) -> str:
    return f"""
[bold green]NoETL is running[/bold green]

  server      {stack.url}
  PostgreSQL  {stack.postgres_dsn}
  NATS        {stack.nats_url}
  data, logs  {stack.data_directory}

  noetl-server run examples/hello.yaml

Ctrl-C stops everything."""


def _cancel_on_signals() -> None:
    """Let Ctrl-C and SIGTERM cancel this task; a second time they cut short whatever it does to stop in order."""
    task = asyncio.current_task()
    assert task is not None, "called from a coroutine"
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
