"""The routes of results, variables, forms, SQL, schema, system and dashboard as one application on a real database."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from noetl._fast.snowflake import SnowflakeGenerator
from noetl.config import load_settings
from noetl.config.secret import Secret
from noetl.http.application import HttpApplication
from noetl.http.catalog import CatalogRoutes
from noetl.http.client_routes import client_routes
from noetl.http.ids import JsonIds
from noetl.http.internal_auth import InternalToken
from noetl.store.catalog import CatalogStore
from noetl.store.database import Database
from noetl.store.executions import ExecutionStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TOKEN = "token-of-the-tests"


@dataclass
class ClientRoutes:
    """An application and its database."""

    database: Database
    application: HttpApplication


@asynccontextmanager
async def client_application(
    url: str,
    *,
    sql_api: str = "open",
    token: str | None = TOKEN,
    schema: str = "noetl",
    largest_result: int = 64 << 20,
) -> AsyncIterator[ClientRoutes]:
    """Everything over the database of ``url``."""
    database = await Database.connect(load_settings({"DATABASE_URL": url, "NOETL_SCHEMA": schema}).database)
    application = HttpApplication()
    catalog = CatalogStore(database)
    groups = client_routes(
        database,
        catalog,
        ExecutionStore(database),
        SnowflakeGenerator(1).mint,
        ids=JsonIds(),
        sql_api=sql_api,
        token=InternalToken(None if token is None else Secret(token)),
        largest_result=largest_result,
    )
    CatalogRoutes(catalog).register(application)
    for group in groups:
        group.register(application)
    try:
        yield ClientRoutes(database, application)
    finally:
        await database.close()
