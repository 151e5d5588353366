"""The providers of this server by the names that playbooks use, each built when it is first needed."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Final

from noetl.errors import InternalError, NoetlError
from noetl.secrets.providers.aws import AwsSecretsManager
from noetl.secrets.providers.aws_sts import AwsAssumedRole
from noetl.secrets.providers.azure import AzureKeyVault
from noetl.secrets.providers.azure_oauth import AzureAccessTokens
from noetl.secrets.providers.gcp import GcpSecretManager
from noetl.secrets.providers.gcp_iam import GcpAccessTokens
from noetl.secrets.providers.k8s import KubernetesSecrets
from noetl.secrets.providers.vault import VaultSecrets

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from noetl.config.provider_settings import SecretSettings
    from noetl.secrets.providers.base import SecretProvider
    from noetl.secrets.web import HttpCall

    Build = Callable[[SecretSettings, HttpCall], SecretProvider]

_BUILDERS: Final[Mapping[str, Build]] = {
    "gcp": lambda settings, call: GcpSecretManager(settings.gcp, call),
    "gcp_iam": lambda settings, call: GcpAccessTokens(settings.gcp, call),
    "k8s": lambda settings, call: KubernetesSecrets(settings.kubernetes, call),
    "vault": lambda settings, call: VaultSecrets(settings.vault, call),
    "aws": lambda settings, call: AwsSecretsManager(settings.aws, call),
    "aws_sts": lambda settings, call: AwsAssumedRole(settings.aws, call),
    "azure": lambda settings, call: AzureKeyVault(settings.azure, call),
    "azure_oauth": lambda settings, call: AzureAccessTokens(settings.azure, call),
}
_OTHER_NAMES: Final[Mapping[str, str]] = {
    "gcp_iamcredentials": "gcp_iam",
    "kubernetes": "k8s",
    "aws_sm": "aws",
    "aws_iam": "aws_sts",
    "azure_kv": "azure",
    "azure_aad": "azure_oauth",
}


def canonical_provider(name: str) -> str:
    """The name of a provider in metrics and messages; raises InternalError for an unknown one."""
    canonical = _OTHER_NAMES.get(name, name)
    if canonical not in _BUILDERS:
        raise InternalError(f"unsupported keychain secret provider '{name}' (supported: {', '.join(_BUILDERS)})")
    return canonical


class ProviderRegistry:
    """Keeps providers, so that their cloud tokens serve many secrets.

    Args:
        settings: of all providers.
        call: makes their requests.
        count: told the provider and ``ok``, ``cache_hit`` or ``error`` whenever one is asked for.
        clock: seconds; ends the life of a provider after ``settings.provider_ttl_seconds``.
    """

    def __init__(
        self,
        settings: SecretSettings,
        call: HttpCall,
        count: Callable[[str, str], None],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._settings = settings
        self._call = call
        self._count = count
        self._clock = clock
        self._built: dict[str, tuple[SecretProvider, float]] = {}

    def get(self, canonical: str) -> SecretProvider:
        """The provider; raises InternalError when a setting that it needs is missing."""
        known = self._built.get(canonical)
        life = self._settings.provider_ttl_seconds
        if known is not None and (life == 0 or self._clock() - known[1] < life):
            self._count(canonical, "cache_hit")
            return known[0]
        try:
            provider = _BUILDERS[canonical](self._settings, self._call)
        except NoetlError:
            self._count(canonical, "error")
            raise
        self._built[canonical] = (provider, self._clock())
        self._count(canonical, "ok")
        return provider
