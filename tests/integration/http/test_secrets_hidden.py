"""Objects that hold a secret while a request runs do not show it: not by `repr`, not in a traceback (promise P7)."""

from __future__ import annotations

import dataclasses
import traceback
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from noetl.errors import DatabaseUnavailableError, NoetlError
from noetl.http.middleware import ErrorResponses
from noetl.secrets.resolution import ResolvedCredential
from tests.integration.http.secret_application import catalog_entry, local_wallet, secret_application
from tests.integration.leaks.marks import Family

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from noetl.store.secret_audit import AuditRow
    from tests.integration.http.rawhttp import Serve
    from tests.integration.http.secret_application import Secrets

FAMILY = Family("credential")
PRIMITIVES = (str, bytes, bytearray, int, float, bool, type(None), list, tuple, dict, set)
"""What the secret itself is made of, and cannot hide."""


class BrokenSink:
    """An audit that takes nothing: the secret is revealed, and must not leave."""

    async def insert(self, rows: Sequence[AuditRow]) -> None:
        raise DatabaseUnavailableError(f"{len(rows)} rows not written")


class Provider:
    """A resolver with a secret for every alias."""

    async def resolve(self, alias: str, _execution_id: int) -> ResolvedCredential:
        return ResolvedCredential("bearer", msgspec.json.encode({"token": FAMILY.text(alias)}))


@pytest.fixture
async def secrets(migrated_database_url: str) -> AsyncIterator[Secrets]:
    async with secret_application(
        migrated_database_url, local_wallet(), required=True, sink=BrokenSink(), resolver=Provider()
    ) as opened:
        yield opened


@pytest.fixture
def errors(monkeypatch: pytest.MonkeyPatch) -> list[Exception]:
    """Every error that becomes an answer."""
    seen: list[Exception] = []
    original = ErrorResponses.of

    def of(self: ErrorResponses, error: Exception, ids: dict[str, str], method: str, path: str) -> Any:
        seen.append(error)
        return original(self, error, ids, method, path)

    monkeypatch.setattr(ErrorResponses, "of", of)
    return seen


def objects_of(error: BaseException | None) -> Iterator[object]:
    """What the frames that an error and its causes passed through knew, and the objects inside of those."""
    seen: set[int] = set()
    while error is not None:
        for frame, _ in traceback.walk_tb(error.__traceback__):
            waiting = [*frame.f_locals.values()]
            while waiting:
                value = waiting.pop()
                if id(value) in seen:
                    continue
                seen.add(id(value))
                if not isinstance(value, PRIMITIVES):
                    yield value
                waiting += _members(value)
        error = error.__cause__ or error.__context__


def _members(value: object) -> list[object]:
    if isinstance(value, msgspec.Struct):
        return list(msgspec.structs.asdict(value).values())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [getattr(value, field.name) for field in dataclasses.fields(value)]
    if type(value).__module__.startswith("noetl") and hasattr(value, "__dict__"):
        return list(vars(value).values())
    return []


def assert_nothing_shown(error: Exception, *types: str) -> None:
    shown = {type(value).__name__: repr(value) for value in objects_of(error)}
    assert set(types) <= set(shown), sorted(shown)
    assert {name: text for name, text in shown.items() if FAMILY.found_in(text.encode())} == {}
    lines = "".join(traceback.format_exception(error)) + repr(error) + str(getattr(error, "detail", ""))
    assert FAMILY.found_in(lines.encode()) == []


async def test_a_write_that_fails_shows_nothing(secrets: Secrets, serve: Serve, errors: list[Exception]) -> None:
    client = await serve(secrets.application)
    for table in ("credential", "keychain"):
        await secrets.database.execute(f"ALTER TABLE noetl.{table} ADD CONSTRAINT no CHECK (false) NOT VALID")
    body = {"name": "n", "type": "t", "data": {"password": FAMILY.text("data")}, "expires_in": 5}
    catalog_id = await catalog_entry(secrets.database)
    assert (await client.post("/api/credentials", body)).status == 500
    assert (await client.post(f"/api/keychain/{catalog_id}/k", body)).status == 500
    for table in ("credential", "keychain"):
        await secrets.database.execute(f"ALTER TABLE noetl.{table} DROP CONSTRAINT no")
    assert_nothing_shown(errors[0], "CredentialRequest", "NewCredential", "CredentialRoutes", "Wallet", "Request")
    assert_nothing_shown(errors[1], "KeychainRequest", "KeychainEntry", "KeychainRoutes", "Wallet", "Request")


async def test_a_read_that_fails_shows_nothing(secrets: Secrets, serve: Serve, errors: list[Exception]) -> None:
    client = await serve(secrets.application)
    await client.post("/api/credentials", {"name": "n", "type": "t", "data": FAMILY.text("stored")})
    for target in ("n?include_data=true", "alias?include_data=true&execution_id=7"):
        assert (await client.get(f"/api/credentials/{target}")).status == 500
    catalog_id = await catalog_entry(secrets.database)
    await client.post(f"/api/keychain/{catalog_id}/k", {"data": FAMILY.text("entry"), "expires_in": 60})
    assert (await client.get(f"/api/keychain/{catalog_id}/k")).status == 500
    assert len(errors) == 3
    for error in errors[:2]:
        assert isinstance(error, NoetlError)
        assert_nothing_shown(error, "Revealed", "CredentialRoutes", "SecretAudit", "AuditRow", "Request")
    assert_nothing_shown(errors[2], "KeychainRoutes", "KeychainRow", "Request")


def test_a_resolved_credential_shows_its_type_alone() -> None:
    assert repr(ResolvedCredential("bearer", b'"hunter2"')) == "ResolvedCredential(type='bearer')"
