"""Builds everything that resolves secrets, from the settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from noetl.secrets.broker import RegionBroker
from noetl.secrets.fetching import SecretFetcher
from noetl.secrets.providers.registry import ProviderRegistry
from noetl.secrets.providers.retries import RetryingCall
from noetl.secrets.refreshing import Refresher
from noetl.secrets.renewal import KeychainRenewal
from noetl.secrets.residency import ResidencyGate
from noetl.secrets.resolver import KeychainResolver
from noetl.store.credentials import CredentialStore
from noetl.store.execution_starts import ExecutionStartStore
from noetl.store.keychain import KeychainStore

if TYPE_CHECKING:
    from noetl.config import Settings
    from noetl.ledger.playbooks import Playbooks
    from noetl.observability.metrics import Metrics
    from noetl.secrets.audit import SecretAudit
    from noetl.secrets.wallet import Wallet
    from noetl.secrets.web import HttpCall
    from noetl.store.shards import Databases


class Resolution:
    """The resolver, and what works for it: `refresher` must run, `renewal` be swept every `renewal_seconds`."""

    def __init__(
        self,
        settings: Settings,
        databases: Databases,
        wallet: Wallet,
        playbooks: Playbooks,
        audit: SecretAudit,
        metrics: Metrics,
        call: HttpCall,
    ) -> None:
        secrets, server_region = settings.secrets, settings.identity.server_region
        region = server_region or "-"
        providers = ProviderRegistry(
            secrets,
            RetryingCall(call),
            lambda provider, status: metrics.secret_provider_builds.labels(provider, region, status).inc(),
        )
        starts, keychain = ExecutionStartStore(databases), KeychainStore(databases.cluster)
        self.refresher = Refresher(metrics)
        self.resolver = KeychainResolver(
            starts=starts,
            keychain=keychain,
            credentials=CredentialStore(databases.cluster),
            playbooks=playbooks,
            wallet=wallet,
            fetcher=SecretFetcher(providers, secrets.cache_safety_margin_seconds),
            gate=ResidencyGate(
                server_region,
                lambda policy, decision: metrics.secret_residency_checks.labels(policy, decision).inc(),
            ),
            refresher=self.refresher,
            settings=secrets,
            audit=audit,
            metrics=metrics,
        )
        window = secrets.cache_refresh_window_seconds
        self.renewal = KeychainRenewal(keychain, starts, self.resolver, self.refresher, window)
        self.renewal_seconds = window / 3
        self.broker = RegionBroker(
            secrets.broker_registry,
            server_region,
            settings.security.internal_api_token,
            call,
            secrets.broker_timeout_seconds,
            metrics,
            secrets.broker_ca_file,
        )
