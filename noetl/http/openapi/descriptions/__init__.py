"""The descriptions of all routes, by resource; `noetl.http` has the modules that serve them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from noetl.http.openapi.descriptions.catalog import CATALOG
from noetl.http.openapi.descriptions.executions import EXECUTIONS
from noetl.http.openapi.descriptions.health import HEALTH
from noetl.http.openapi.descriptions.internal import INTERNAL
from noetl.http.openapi.descriptions.results import REPLAY, RESULTS, VARIABLES
from noetl.http.openapi.descriptions.secrets import CREDENTIALS, KEYCHAIN
from noetl.http.openapi.descriptions.system import DASHBOARD, DATABASE, DOCUMENT, SYSTEM
from noetl.http.openapi.descriptions.workers import WORKERS

if TYPE_CHECKING:
    from noetl.http.openapi.description import Tag

TAGS: Final[tuple[Tag, ...]] = (
    CATALOG,
    EXECUTIONS,
    REPLAY,
    RESULTS,
    VARIABLES,
    CREDENTIALS,
    KEYCHAIN,
    WORKERS,
    DASHBOARD,
    HEALTH,
    SYSTEM,
    DATABASE,
    INTERNAL,
    DOCUMENT,
)
