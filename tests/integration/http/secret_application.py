"""The routes for secrets as one application on a real database."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from noetl.config import load_settings
from noetl.config.secret import Secret
from noetl.http.application import HttpApplication
from noetl.http.credential_reading import CredentialReader
from noetl.http.credentials import CredentialRoutes
from noetl.http.cross_region import CrossRegionRoutes
from noetl.http.internal_auth import InternalGuard, InternalToken
from noetl.http.keychain import KeychainRoutes
from noetl.http.runtime import RuntimeRoutes
from noetl.http.secret_audit import SecretAuditRoutes
from noetl.http.wallet import WalletRoutes
from noetl.ledger.playbooks import Playbooks
from noetl.observability.metrics import Metrics
from noetl.secrets.assembly import Resolution
from noetl.secrets.audit import SecretAudit
from noetl.secrets.key_managers import LocalKeyManager
from noetl.secrets.rotation import Rotation
from noetl.secrets.wallet import Wallet
from noetl.secrets.web import HttpClient
from noetl.store.catalog import CatalogStore
from noetl.store.credentials import CredentialStore
from noetl.store.database import Database
from noetl.store.keychain import KeychainStore
from noetl.store.runtime import RuntimeStore
from noetl.store.secret_audit import SecretAuditStore
from noetl.store.worker_keys import WorkerKeyStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from noetl.secrets.audit import AuditSink
    from noetl.secrets.resolution import SealingBroker, SecretResolver
    from tests.integration.http.rawhttp import RawClient, Reply

KEY = bytes(range(32))
TOKEN = "token-of-the-tests"
JSON = ("content-type", "application/json")


def local_wallet(key: bytes = KEY, *former: bytes) -> Wallet:
    """A wallet with a key of its own; ``former`` keys only open."""
    return Wallet(LocalKeyManager(Secret(key), [Secret(one) for one in former]))


@dataclass
class Secrets:
    """An application, its database, and what it told the metrics."""

    database: Database
    application: HttpApplication
    audit: SecretAudit
    metrics: Metrics
    resolution: Resolution | None = None
    writes: list[tuple[str, bool]] = field(default_factory=list)
    counts: list[tuple[str, ...]] = field(default_factory=list)

    def observe_write(self, endpoint: str, ok: bool, _seconds: float, /) -> None:
        self.writes.append((endpoint, ok))

    def count(self, *labels: str) -> None:
        self.counts.append(labels)

    async def audited(self) -> list[tuple[str, str, str]]:
        """Credential, operation and outcome of all rows, oldest first, and forget them."""
        await self.audit.flush(5)
        rows = await self.database.fetch("DELETE FROM noetl.secret_audit RETURNING *")
        ordered = sorted(rows, key=lambda row: row["audit_id"])
        return [(row["credential"], row["operation"], row["outcome"]) for row in ordered]


@asynccontextmanager
async def secret_application(
    url: str,
    wallet: Wallet | None,
    *,
    resolver: SecretResolver | None = None,
    broker: SealingBroker | None = None,
    required: bool = False,
    sink: AuditSink | None = None,
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[Secrets]:
    """Everything over the database of ``url``; ``wallet`` None is a server without a key.

    With an ``environment``, entries of playbooks are resolved as its settings say, by the resolver and broker of the
    server.
    """
    settings = load_settings({"DATABASE_URL": url, **(environment or {})})
    database = await Database.connect(settings.database)
    ids = itertools.count(1)
    audit_store = SecretAuditStore(database)
    application = HttpApplication()
    counts: list[tuple[str, ...]] = []
    audit = SecretAudit(
        audit_store if sink is None else sink, lambda: next(ids), server_region="here", required=required,
        count=lambda *labels: counts.append(labels),
    )  # fmt: skip
    metrics = Metrics("test")
    resolution = None
    if environment is not None and wallet is not None:
        playbooks = Playbooks(CatalogStore(database), 2**20)
        outgoing = HttpClient(settings.secrets.proxies)
        resolution = Resolution(settings, database, wallet, playbooks, audit, metrics, outgoing)
        resolver, broker = resolution.resolver, resolution.broker
    opened = Secrets(database, application, audit, metrics, resolution, counts=counts)
    credentials, keychain = CredentialStore(database), KeychainStore(database)
    tables: dict[str, Any] = {"credential": credentials, "keychain": keychain}
    reader = None if wallet is None else CredentialReader(credentials, wallet, audit, resolver)
    groups: Sequence[Any] = (
        CredentialRoutes(
            credentials, WorkerKeyStore(database), wallet, reader, audit, broker=broker, observer=opened,
            count_sealed=opened.count,
        ),
        KeychainRoutes(keychain, wallet, audit, opened),
        WalletRoutes(None if wallet is None else Rotation(wallet, tables, opened.count), tables),
        SecretAuditRoutes(audit_store),
        CrossRegionRoutes(reader, audit, settings.identity.server_region, opened.count),
        RuntimeRoutes(RuntimeStore(database), lambda: next(ids)),
        InternalGuard(InternalToken(Secret(TOKEN))),
    )  # fmt: skip
    for group in groups:
        group.register(application)
    refreshing = None if resolution is None else asyncio.create_task(resolution.refresher.run())
    try:
        yield opened
    finally:
        if refreshing is not None:
            refreshing.cancel()
            await asyncio.gather(refreshing, return_exceptions=True)
        await database.close()


async def internal(client: RawClient, target: str, body: str | None = None) -> Reply:
    """GET below `/api/internal/`, or POST with a JSON body, with the token."""
    headers = [("authorization", f"Bearer {TOKEN}")]
    if body is None:
        return await client.request("GET", f"/api/internal/{target}", None, headers)
    return await client.request("POST", f"/api/internal/{target}", body, [JSON, *headers])


async def catalog_entry(database: Database) -> int:
    """The id of a fresh catalog entry."""
    return await database.fetchval(
        "INSERT INTO noetl.catalog (path, version, kind, content)"
        " VALUES (gen_random_uuid()::text, 1, 'playbook', '') RETURNING catalog_id",
        retry=False,
    )
