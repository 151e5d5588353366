"""The routes of results, variables, forms, SQL, schema, system and dashboard as one application on a real database."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from noetl._fast.snowflake import SnowflakeGenerator
from noetl.config import load_settings
from noetl.config.secret import Secret
from noetl.http.application import HttpApplication
from noetl.http.catalog import CatalogRoutes
from noetl.http.dashboard import DashboardRoutes
from noetl.http.database import DatabaseRoutes
from noetl.http.ids import JsonIds
from noetl.http.internal_auth import InternalToken
from noetl.http.results import ResultRoutes
from noetl.http.system import SystemRoutes
from noetl.http.ui_schema import UiSchemaRoutes
from noetl.http.variables import VariableRoutes
from noetl.observability.usage import UsageMeter
from noetl.store.catalog import CatalogStore
from noetl.store.dashboard import DashboardStore
from noetl.store.database import Database
from noetl.store.executions import ExecutionStore
from noetl.store.results import ResultStore
from noetl.store.schema import SchemaStore
from noetl.store.sql import SqlConsole
from noetl.store.variables import VariableStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

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
    catalog, ids = CatalogStore(database), JsonIds()
    groups: Sequence[Any] = (
        CatalogRoutes(catalog),
        UiSchemaRoutes(catalog),
        ResultRoutes(ResultStore(database), SnowflakeGenerator(1).mint, largest_result),
        VariableRoutes(VariableStore(database), ids),
        DatabaseRoutes(
            SqlConsole(database),
            SchemaStore(database),
            sql_api,
            InternalToken(None if token is None else Secret(token)),
        ),
        SystemRoutes(UsageMeter()),
        DashboardRoutes(DashboardStore(database), ExecutionStore(database), ids),
    )
    for group in groups:
        group.register(application)
    try:
        yield ClientRoutes(database, application)
    finally:
        await database.close()
