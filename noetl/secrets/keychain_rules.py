"""How resolved secrets are kept in the keychain, and what type workers get them as (spec 40, sections 9 and 20, D3)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec
import orjson

from noetl.engine.template import is_template
from noetl.secrets.resolution import ResolvedCredential
from noetl.store.keychain import cache_key

if TYPE_CHECKING:
    from noetl.engine.playbook.model import KeychainEntry
    from noetl.store.execution_starts import ExecutionStart

LONGEST_SECONDS: Final = 600
SHORTEST_SECONDS: Final = 5

WORKER_TYPES: Final = frozenset({"postgres", "bearer", "bearer_token", "api_key", "basic"})
_SINGLE_FIELDS: Final = {"bearer": "token", "bearer_token": "token", "api_key": "api_key"}


class Place(msgspec.Struct, frozen=True):
    """Where a value is kept: scope, execution (None: for all of the playbook), and the key of the row."""

    scope: str
    execution_id: int | None
    key: str


def local_place(alias: str, start: ExecutionStart) -> Place:
    """The place for one execution."""
    return Place("local", start.execution_id, cache_key(alias, start.catalog_id, "local", start.execution_id))


def place_of(entry: KeychainEntry, start: ExecutionStart) -> Place:
    """The place that the entry's ``scope`` asks for.

    ``global`` is for all executions of the playbook, ``shared`` for those with the same parent. Only a value that does
    not depend on the workload of the execution is shared with others: else whoever starts one could choose what the
    others get.
    """
    scope = entry.scope
    if scope not in {"global", "shared"} or any(is_template(text) for text in (entry.map or {}).values()):
        return local_place(entry.name, start)
    execution_id = (start.parent_execution_id or start.execution_id) if scope == "shared" else None
    return Place(scope, execution_id, cache_key(entry.name, start.catalog_id, scope, execution_id))


def kept_seconds(expires_at: datetime | None, now: datetime, margin_seconds: float) -> float | None:
    """For how long a value is kept: less than its issuer lets it live by the margin; None is not at all."""
    if expires_at is None:
        return LONGEST_SECONDS
    left = (expires_at - timedelta(seconds=margin_seconds) - now).total_seconds()
    return None if left <= 0 else min(max(left, SHORTEST_SECONDS), LONGEST_SECONDS)


def is_due(expires_at: datetime, window_seconds: float) -> bool:
    """Whether a kept value is to be renewed before it ends."""
    return expires_at - timedelta(seconds=window_seconds) <= datetime.now(UTC)


def for_worker(entry: KeychainEntry | None, value: Any) -> ResolvedCredential:
    """A kept value as the answer to a worker.

    The type is ``keychain``, unless the entry names one that workers understand; then a text becomes the object that
    this type has.
    """
    kind = None if entry is None else (entry.extra.get("type") or entry.token_type)
    if not isinstance(kind, str) or kind not in WORKER_TYPES:
        return ResolvedCredential("keychain", _json(value))
    if isinstance(value, str):
        field = _SINGLE_FIELDS.get(kind)
        value = _object_in(value) if field is None else {field: value}
    return ResolvedCredential(kind, _json(value))


def _object_in(text: str) -> Any:
    """The JSON object that a text holds, as secret stores keep users with passwords; else the text."""
    try:
        value: Any = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    return cast("Any", value) if isinstance(value, dict) else text


def _json(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
