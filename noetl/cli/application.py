"""The commands of `noetl-server`."""

from __future__ import annotations

import typer

import noetl
from noetl.cli import serving
from noetl.cli.catalog import catalog
from noetl.cli.development import dev, run
from noetl.cli.executions import events, executions, pools
from noetl.cli.serve import serve

HELP = """The control plane of NoETL.

Without a command it serves. The settings come from the environment (or a .env file); the common ones:

\b
    DATABASE_URL             postgresql://user:password@host:5432/database
    NATS_URL                 nats://host:4222 (without it, workers are not told of commands)
    NOETL_PUBLIC_SERVER_URL  where workers reach this server
    NOETL_ENCRYPTION_KEY     key of the stored credentials: openssl rand -base64 32
    NOETL_PORT, NOETL_HOST   where to listen (8082, all interfaces)
    NOETL_SERVER_MACHINE_ID  0 to 1023, another one for each replica
    RUST_LOG                 log filter, for example info,noetl_server=debug

`noetl-server config` prints all of them with their present values.

Exit codes: 0 done; 1 the server refuses, does not answer, or an execution did not complete; 2 wrong usage, settings or
documents; 130 interrupted.
"""

application = typer.Typer(help=HELP, rich_markup_mode=None)
application.command()(serve)
application.command()(serving.config)
application.add_typer(serving.database, name="db")
application.command()(dev)
application.command()(run)
application.add_typer(catalog, name="catalog")
application.add_typer(executions, name="executions")
application.command()(events)
application.command()(pools)


@application.callback(invoke_without_command=True)
def _default(  # pyright: ignore[reportUnusedFunction]
    context: typer.Context,
    version: bool = typer.Option(False, "--version", help="Print the version and exit."),
) -> None:
    if version:
        typer.echo(noetl.__version__)
        raise typer.Exit
    if context.invoked_subcommand is None:
        serve()
