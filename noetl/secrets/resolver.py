"""From a ``keychain:`` entry of a playbook to the secret: kept value, residency, references, provider (spec 40, 8)."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import TYPE_CHECKING, Any

from noetl.engine.reading import as_object
from noetl.engine.template import TemplateError, render_text
from noetl.errors import NoetlError, TemplateFailure
from noetl.secrets.audit import RESOLVE_KEYCHAIN, SecretAccess
from noetl.secrets.fetching import SecretName
from noetl.secrets.keychain_rules import Place, for_worker, is_due, kept_seconds, local_place, place_of
from noetl.secrets.providers.registry import canonical_provider
from noetl.secrets.resolution import ResolvedCredential, outcome_of
from noetl.store.keychain import KeychainEntry as KeptEntry

if TYPE_CHECKING:
    from noetl.config.provider_settings import SecretSettings
    from noetl.engine.playbook.model import KeychainEntry
    from noetl.ledger.playbooks import Playbooks
    from noetl.observability.metrics import Metrics
    from noetl.secrets.audit import SecretAudit
    from noetl.secrets.fetching import SecretFetcher
    from noetl.secrets.providers.base import SecretValue
    from noetl.secrets.refreshing import Refresher
    from noetl.secrets.residency import ResidencyGate
    from noetl.secrets.wallet import Wallet
    from noetl.store.credentials import CredentialStore
    from noetl.store.execution_starts import ExecutionStart, ExecutionStartStore
    from noetl.store.keychain import KeychainStore

log = logging.getLogger("noetl.secrets")


class KeychainResolver:
    """Resolves entries; see `SecretResolver`.

    Args:
        starts, keychain, credentials: the rows.
        playbooks: parsed playbooks.
        wallet: opens and seals what is kept.
        fetcher: asks the providers.
        gate: decides where a secret may be read.
        refresher: renews kept values that end soon.
        settings: margin and window of kept values.
        audit: told when an entry reads a stored credential of another name.
        metrics: told about every resolution.
    """

    def __init__(
        self,
        *,
        starts: ExecutionStartStore,
        keychain: KeychainStore,
        credentials: CredentialStore,
        playbooks: Playbooks,
        wallet: Wallet,
        fetcher: SecretFetcher,
        gate: ResidencyGate,
        refresher: Refresher,
        settings: SecretSettings,
        audit: SecretAudit,
        metrics: Metrics,
    ) -> None:
        self._starts = starts
        self._keychain = keychain
        self._credentials = credentials
        self._playbooks = playbooks
        self._wallet = wallet
        self._fetcher = fetcher
        self._gate = gate
        self._refresher = refresher
        self._settings = settings
        self._audit = audit
        self._metrics = metrics

    async def resolve(self, alias: str, execution_id: int) -> ResolvedCredential | None:
        """See `SecretResolver`. What is kept for the execution wins over what the playbook says."""
        start = await self._starts.find(execution_id)
        if start is None:
            return None
        entry = await self.entry(start.catalog_id, alias)
        if entry is not None and entry.provider:
            self._gate.check(entry)  # also what is kept must not be read elsewhere: servers may share one database
        places = [local_place(alias, start)]
        if entry is not None and (declared := place_of(entry, start)) not in places:
            places.append(declared)
        for place in places:
            if (kept := await self._kept(place, entry, start)) is not None:
                return for_worker(entry, kept[0])
        if entry is None:
            return None
        if not entry.provider:
            return await self._stored(entry, start)
        return for_worker(entry, await self._provided(entry, start, fresh=False))

    async def renew(self, entry: KeychainEntry, start: ExecutionStart) -> None:
        """Ask the provider of an entry anew and keep the value, for no reader; raises as `resolve`."""
        access = SecretAccess(
            credential=entry.name, operation=RESOLVE_KEYCHAIN, execution_id=start.execution_id or None
        )
        notes = f"renewal from provider {entry.provider}"
        try:
            self._gate.check(entry)
            await self._provided(entry, start, fresh=True)
        except Exception as error:
            await self._audit.record(access, outcome_of(error), notes=notes)
            raise
        await self._audit.record(access, "ok", notes=notes)

    async def _provided(self, entry: KeychainEntry, start: ExecutionStart, *, fresh: bool) -> Any:
        """The value of an entry from its provider, which is then kept; ``fresh`` asks the provider in any case."""
        region = self._gate.region_of(entry)
        provider = canonical_provider(entry.provider or "")
        labels = (provider, region or "-")
        begin = monotonic()
        status = "provider_fetch_error"
        try:
            names = self._references(entry, start, provider, region)
            values = await self._fetch_all(names, fresh=fresh)
            status = "ok"
        except TemplateFailure:
            status = "template_error"
            raise
        except NoetlError as error:
            where = f" (keychain entry '{entry.name}', provider '{provider}')"
            raise type(error)(error.message + where, detail=error.detail) from None
        finally:
            self._metrics.secret_resolves.labels(*labels, status).inc()
            self._metrics.secret_resolve_seconds.labels(*labels).observe(monotonic() - begin)
        texts = {member: value.text.reveal() for member, value in values.items()}
        value = texts[""] if entry.map is None else texts
        ends = [moment for one in values.values() if (moment := one.expires_at) is not None]
        await self._keep(entry, start, value, min(ends, default=None))
        return value

    async def entry(self, catalog_id: int, alias: str) -> KeychainEntry | None:
        """The first entry of that name in a playbook, or None."""
        playbook = await self._playbooks.get(catalog_id)
        entries = () if playbook is None else playbook.keychain
        return next((entry for entry in entries if entry.name == alias), None)

    async def _kept(self, place: Place, entry: KeychainEntry | None, start: ExecutionStart) -> tuple[Any] | None:
        """The kept value in a tuple (it may be null), or None; a row that cannot be read is as good as none."""
        try:
            row = await self._keychain.use(place.key)
            if row is None or row.expired:
                return None
            value = await self._wallet.open(row.data_encrypted)
        except NoetlError as error:
            log.warning("A kept secret cannot be read", extra={"cache_key": place.key, "error": error.message})
            return None
        if entry is not None and entry.provider and is_due(row.expires_at, self._settings.cache_refresh_window_seconds):
            self._refresher.trigger(place.key, lambda: self.renew(entry, start))
        return (value,)

    async def _stored(self, entry: KeychainEntry, start: ExecutionStart) -> ResolvedCredential | None:
        """The stored credential that an entry without provider names in ``credential``."""
        if not entry.credential:
            return None
        name = self._render(entry, entry.credential, start)
        credential = None if "\0" in name else await self._credentials.find(None, name, with_data=True)
        if credential is None or credential.data_encrypted is None:
            return None
        value = await self._wallet.open(credential.data_encrypted)
        access = SecretAccess(credential=name, operation=RESOLVE_KEYCHAIN, execution_id=start.execution_id)
        await self._audit.record(access, "ok", notes=f"keychain entry {entry.name}")
        resolved = for_worker(entry, value)
        return resolved if resolved.type != "keychain" else ResolvedCredential(credential.type, resolved.data)

    def _references(
        self, entry: KeychainEntry, start: ExecutionStart, provider: str, region: str
    ) -> dict[str, SecretName]:
        """What to fetch, by member of the value; an entry without ``map`` is its own reference, under no name."""
        if entry.map is None:
            return {"": SecretName(provider, region, entry.name)}
        return {
            member: SecretName(provider, region, self._render(entry, text, start)) for member, text in entry.map.items()
        }

    def _render(self, entry: KeychainEntry, text: str, start: ExecutionStart) -> str:
        workload = as_object(start.workload)
        try:
            return render_text(text, {"workload": workload, **workload}, self._playbooks.limits)
        except TemplateError as error:
            raise TemplateFailure(f"{error} (keychain entry '{entry.name}')") from None

    async def _fetch_all(self, names: dict[str, SecretName], *, fresh: bool) -> dict[str, SecretValue]:
        """All secrets at once; the first failure ends the others."""
        try:
            async with asyncio.TaskGroup() as group:
                tasks = {
                    member: group.create_task(self._fetcher.fetch(name, fresh=fresh)) for member, name in names.items()
                }
        except* NoetlError as failures:
            raise _first(failures) from None
        return {member: task.result() for member, task in tasks.items()}

    async def _keep(self, entry: KeychainEntry, start: ExecutionStart, value: Any, ends: datetime | None) -> None:
        now = datetime.now(UTC)
        if ends is not None:
            self._metrics.secret_dynamic_ttl_seconds.observe(max(0.0, (ends - now).total_seconds()))
        seconds = kept_seconds(ends, now, self._settings.cache_safety_margin_seconds)
        if seconds is None:
            self._metrics.secret_cache_skips.labels("already_expired").inc()
            log.info("A secret ends too soon to be kept", extra={"keychain_name": entry.name})
            return
        place = place_of(entry, start)
        try:
            await self._keychain.put(
                KeptEntry(
                    cache_key=place.key,
                    keychain_name=entry.name,
                    catalog_id=start.catalog_id,
                    scope_type=place.scope,
                    execution_id=place.execution_id,
                    data_encrypted=await self._wallet.seal(value),
                    expires_at=now + timedelta(seconds=seconds),
                    auto_renew=entry.auto_renew,
                )
            )
        except NoetlError as error:
            log.warning("A secret cannot be kept", extra={"keychain_name": entry.name, "error": error.message})


def _first(failures: BaseExceptionGroup[NoetlError]) -> NoetlError:
    first = failures.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
