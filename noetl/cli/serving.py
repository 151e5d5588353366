"""`config` and `db`: the settings of the server, and its schema."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import orjson
import typer

from noetl.cli.serve import read_settings
from noetl.config import effective_settings
from noetl.errors import NoetlError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from noetl.store.database import Database


def config(json: bool = typer.Option(False, "--json", help="One JSON object instead of a table.")) -> None:
    """Print the effective settings; secrets are masked."""
    rows = effective_settings(read_settings())
    if json:
        document = {row.variable: {"value": row.value, "default": row.default, "why": row.why} for row in rows}
        typer.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2))
        return
    width = max(len(row.variable) for row in rows)
    group = ""
    for row in rows:
        if row.group != group:
            group = row.group
            typer.echo(f"\n# {group}")
        typer.echo(f"{row.variable:<{width}}  {row.value}")


database = typer.Typer(help="The database schema.", rich_markup_mode=None)


@database.command("upgrade")
def upgrade() -> None:
    """Create the schema or bring it up to date; nothing is ever dropped."""
    _with_database(_upgrade)


@database.command("init")
def init() -> None:
    """The same as upgrade, under the name that the old tooling uses."""
    _with_database(_upgrade)


@database.command("validate")
def validate() -> None:
    """Exit with 1 unless the schema is up to date."""
    _with_database(_validate)


@database.command("script")
def script(schema: str = typer.Option("noetl", help="Name of the schema.")) -> None:
    """Print the whole schema as SQL, for an administrator to read."""
    from noetl.store.migrations import upgrade_script

    typer.echo(upgrade_script(schema))


@database.command("retention")
def retention(
    before: Annotated[
        datetime,
        typer.Option(formats=["%Y-%m-%d"], help="Partitions without an event since this date (UTC) are old."),
    ],
    apply: bool = typer.Option(False, "--apply", help="Do it. Without this option it is only told."),
    drop: bool = typer.Option(False, "--drop", help="Also drop what is detached, now or before."),
) -> None:
    """Detach old partitions of the event log, and drop them on request; run it as the owner of the tables."""
    from noetl.cli.retention import Retention

    run = Retention(before.replace(tzinfo=UTC), apply=apply, drop=drop)
    _with_database(run.on)
    if run.refused:
        raise typer.Exit(1)


async def _upgrade(connected: Database) -> None:
    from noetl.store.migrations import upgrade as apply
    from noetl.store.partitions import PartitionStore

    names = await apply(connected)
    for name in names:
        typer.echo(f"applied {name}")
    for name in await PartitionStore(connected).make_ahead(datetime.now(UTC)):
        typer.echo(f"made partition {name}")
    typer.echo(f"Schema '{connected.schema}' is up to date.")


async def _validate(connected: Database) -> None:
    from noetl.store.migrations import Upgrade

    async with connected.acquire() as connection:
        missing = [migration.name for migration in await Upgrade(connected.schema).pending(connection)]
    if missing:
        typer.echo(f"Schema '{connected.schema}' needs: {', '.join(missing)}. Run noetl-server db upgrade.", err=True)
        raise typer.Exit(1)
    typer.echo(f"Schema '{connected.schema}' is up to date.")


def _with_database(operation: Callable[[Database], Awaitable[None]]) -> None:
    """Run the operation on the database, or with NOETL_SHARDS on one after the other."""
    from noetl.app import connect_databases

    async def run() -> None:
        databases = await connect_databases(read_settings())
        try:
            for name, database in databases.named.items():
                if len(databases.named) > 1:
                    typer.echo(f"{name}:")
                await operation(database)
        finally:
            await databases.close()

    try:
        asyncio.run(run())
    except NoetlError as error:
        typer.echo(f"Error: {error.detail or error.message}", err=True)
        raise typer.Exit(1) from None
