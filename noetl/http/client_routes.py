"""The routes of results, variables, forms, SQL, schema, system and dashboard over the databases of a server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from noetl.http.dashboard import DashboardRoutes
from noetl.http.database import DatabaseRoutes
from noetl.http.results import ResultRoutes
from noetl.http.system import SystemRoutes
from noetl.http.ui_schema import UiSchemaRoutes
from noetl.http.variables import VariableRoutes
from noetl.observability.usage import UsageMeter
from noetl.store.dashboard import DashboardStore
from noetl.store.results import ResultStore
from noetl.store.schema import SchemaStore
from noetl.store.sharded_dashboard import ShardedDashboard
from noetl.store.shards import Shards
from noetl.store.sql import SqlConsole
from noetl.store.variables import VariableStore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    from noetl.http.ids import JsonIds
    from noetl.http.internal_auth import InternalToken
    from noetl.http.results import ResultObserver
    from noetl.store.catalog import CatalogStore
    from noetl.store.sharded_executions import Executions
    from noetl.store.shards import Databases

    ClientRoutes: TypeAlias = Sequence[
        UiSchemaRoutes | ResultRoutes | VariableRoutes | DatabaseRoutes | SystemRoutes | DashboardRoutes
    ]


def client_routes(
    databases: Databases,
    catalog: CatalogStore,
    executions: Executions,
    mint: Callable[[], int],
    *,
    ids: JsonIds,
    sql_api: str,
    token: InternalToken,
    largest_result: int,
    observer: ResultObserver | None = None,
) -> ClientRoutes:
    """The route groups.

    Args:
        databases: where everything is; ``catalog`` and ``executions`` are stores on them.
        mint: gives ids of new results.
        ids: how ids are written.
        sql_api, token: who may run SQL (`DatabaseRoutes`).
        largest_result: bytes of an upload.
        observer: told how the calls about results ended.
    """
    return (
        UiSchemaRoutes(catalog),
        ResultRoutes(ResultStore(databases.cluster), mint, largest_result, observer),
        VariableRoutes(VariableStore(databases), ids),
        DatabaseRoutes(SqlConsole(databases.cluster), SchemaStore(databases), sql_api, token),
        SystemRoutes(UsageMeter()),
        DashboardRoutes(
            ShardedDashboard(databases) if isinstance(databases, Shards) else DashboardStore(databases), executions, ids
        ),
    )
