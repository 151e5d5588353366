"""Settings of the secret providers, one struct per provider (spec 60, section 2.5).

A provider that lacks one of them answers the request that needed it; its absence never stops the start.
"""

from __future__ import annotations

from typing import Final

import msgspec

from noetl.config import values
from noetl.config.secret import Secret
from noetl.config.variable import setting

_SERVICE_ACCOUNT: Final = "/var/run/secrets/kubernetes.io/serviceaccount"
_METADATA_TOKEN_URL: Final = (
    "http://metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/token"  # noqa: S105 (address)
)
_lifetime = values.integer(1, 4_294_967_295, "seconds")


class GcpSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Google Cloud secrets"""

    project: str | None = setting(
        ("GOOGLE_CLOUD_PROJECT", "GCP_PROJECT"), values.text, None, "my-project",
        "Project of a secret that is named without one.",
    )  # fmt: skip
    secret_manager_endpoint: str = setting(
        "NOETL_GCP_SM_ENDPOINT", values.http_url, "https://secretmanager.googleapis.com/v1",
        "https://secretmanager.googleapis.com/v1", "Secret Manager address.",
    )  # fmt: skip
    metadata_token_url: str = setting(
        "NOETL_GCP_METADATA_TOKEN_URL", values.http_url, _METADATA_TOKEN_URL, _METADATA_TOKEN_URL,
        "Where the workload's own token comes from.",
    )  # fmt: skip
    iam_credentials_endpoint: str = setting(
        "NOETL_GCP_IAM_CREDENTIALS_ENDPOINT", values.http_url, "https://iamcredentials.googleapis.com/v1",
        "https://iamcredentials.googleapis.com/v1", "IAM Credentials address.",
    )  # fmt: skip
    impersonate_service_account: str | None = setting(
        "NOETL_GCP_IMPERSONATE_SA", values.text, None, "reader@my-project.iam.gserviceaccount.com",
        "Service account whose tokens are minted when the reference names none.",
    )  # fmt: skip
    iam_lifetime_seconds: int = setting(
        "NOETL_GCP_IAM_LIFETIME_SECS", _lifetime, 3600, "3600", "Life of a minted access token."
    )


class KubernetesSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Kubernetes secrets"""

    api_url: str | None = setting(
        "NOETL_K8S_API_URL", values.http_url, None, "https://kubernetes.default.svc", "API server.",
        default_text="https://$KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT, else https://kubernetes.default.svc",
    )  # fmt: skip
    service_host: str | None = setting(
        "KUBERNETES_SERVICE_HOST", values.host, None, "10.0.0.1", "API server, as Kubernetes injects it."
    )
    service_port: int = setting(
        "KUBERNETES_SERVICE_PORT", values.integer(1, 65535), 443, "443", "Its port, as Kubernetes injects it."
    )
    namespace: str | None = setting(
        "NOETL_K8S_NAMESPACE", values.text, None, "noetl", "Namespace of a secret that is named without one.",
        default_text="the service account's, else default",
    )  # fmt: skip
    ca_file: str = setting(
        "NOETL_K8S_CA_FILE", values.text, f"{_SERVICE_ACCOUNT}/ca.crt", f"{_SERVICE_ACCOUNT}/ca.crt",
        "CA bundle of the API server.",
    )  # fmt: skip
    token_file: str = setting(
        "NOETL_K8S_TOKEN_FILE", values.text, f"{_SERVICE_ACCOUNT}/token", f"{_SERVICE_ACCOUNT}/token",
        "Token file, read again for every fetch.",
    )  # fmt: skip
    token: Secret[str] | None = setting(
        "NOETL_K8S_TOKEN", values.secret_text, None, "...", "Token itself; wins over the file.", secret=True
    )

    @property
    def effective_api_url(self) -> str:
        """The API server: as set, as Kubernetes injects it, or its name in the cluster's DNS."""
        if self.api_url is not None:
            return self.api_url
        if self.service_host is None:
            return "https://kubernetes.default.svc"
        name = f"[{self.service_host}]" if ":" in self.service_host else self.service_host
        return f"https://{name}:{self.service_port}"


class VaultSettings(msgspec.Struct, frozen=True, kw_only=True):
    """HashiCorp Vault secrets"""

    address: str = setting(
        "VAULT_ADDR", values.http_url, "http://127.0.0.1:8200", "http://vault.vault.svc:8200", "Vault address."
    )
    token: Secret[str] | None = setting(
        "VAULT_TOKEN", values.secret_text, None, "...", "Vault token; wins over the file.", secret=True
    )
    token_file: str | None = setting(
        "NOETL_VAULT_TOKEN_FILE", values.text, None, "/vault/secrets/token", "Token file, read again for every fetch."
    )
    namespace: str | None = setting("VAULT_NAMESPACE", values.text, None, "team", "Vault Enterprise namespace.")
    kv_mount: str = setting(
        "NOETL_VAULT_KV_MOUNT", values.text, "secret", "secret", "Key-value mount of a secret named without one."
    )
    ca_file: str | None = setting(
        "NOETL_VAULT_CA_FILE", values.text, None, "/etc/noetl/vault-ca.crt", "CA bundle of Vault."
    )


class AwsSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Amazon Web Services secrets"""

    access_key_id: str | None = setting(
        "AWS_ACCESS_KEY_ID", values.text, None, "AKIAIOSFODNN7EXAMPLE", "Access key, required for provider aws."
    )
    secret_access_key: Secret[str] | None = setting(
        "AWS_SECRET_ACCESS_KEY", values.secret_text, None, "...", "Its secret, required for provider aws.", secret=True
    )
    session_token: Secret[str] | None = setting(
        "AWS_SESSION_TOKEN", values.secret_text, None, "...", "Token of temporary credentials.", secret=True
    )
    region: str | None = setting(
        ("AWS_REGION", "AWS_DEFAULT_REGION"), values.text, None, "eu-west-1",
        "Region; required for provider aws, us-east-1 for aws_sts when absent.",
    )  # fmt: skip
    secrets_manager_endpoint: str | None = setting(
        "NOETL_AWS_SM_ENDPOINT",
        values.http_url,
        None,
        "http://localstack:4566",
        "Secrets Manager address for all regions.",
    )
    role_arn: str | None = setting(
        "AWS_ROLE_ARN",
        values.text,
        None,
        "arn:aws:iam::123456789012:role/noetl",
        "Role that aws_sts assumes by default.",
    )
    web_identity_token_file: str = setting(
        "AWS_WEB_IDENTITY_TOKEN_FILE", values.text, "/var/run/secrets/eks.amazonaws.com/serviceaccount/token",
        "/var/run/secrets/eks.amazonaws.com/serviceaccount/token", "Token file for aws_sts, read again for every call.",
    )  # fmt: skip
    sts_duration_seconds: int = setting(
        "NOETL_AWS_STS_DURATION_SECS", _lifetime, 3600, "3600", "Life of assumed credentials."
    )
    sts_endpoint: str | None = setting(
        "NOETL_AWS_STS_ENDPOINT_OVERRIDE", values.http_url, None, "http://localstack:4566", "STS address, verbatim."
    )


class AzureSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Azure secrets"""

    key_vault: str | None = setting(
        "AZURE_KEYVAULT_VAULT", values.text, None, "my-vault", "Vault of a secret that is named without one."
    )
    key_vault_token: Secret[str] | None = setting(
        "AZURE_KEYVAULT_TOKEN", values.secret_text, None, "...", "Token; without it the instance metadata gives one.",
        secret=True,
    )  # fmt: skip
    key_vault_dns_suffix: str = setting(
        "NOETL_AZURE_KEYVAULT_DNS_SUFFIX", values.text, "vault.azure.net", "vault.azure.net", "Domain of the vaults."
    )
    key_vault_api_version: str = setting(
        "NOETL_AZURE_KEYVAULT_API_VERSION", values.text, "7.4", "7.4", "Version of the Key Vault API."
    )
    imds_token_url: str = setting(
        "NOETL_AZURE_IMDS_TOKEN_URL", values.http_url, "http://169.254.169.254/metadata/identity/oauth2/token",
        "http://169.254.169.254/metadata/identity/oauth2/token", "Where instance metadata gives tokens.",
    )  # fmt: skip
    tenant_id: str | None = setting(
        "AZURE_TENANT_ID", values.text, None, "contoso.onmicrosoft.com", "Tenant, required for azure_oauth."
    )
    client_id: str | None = setting(
        "AZURE_CLIENT_ID",
        values.text,
        None,
        "11111111-2222-3333-4444-555555555555",
        "Client, required for azure_oauth.",
    )
    client_secret: Secret[str] | None = setting(
        "AZURE_CLIENT_SECRET", values.secret_text, None, "...", "Its secret, required for azure_oauth.", secret=True
    )
    oauth_scope: str = setting(
        "NOETL_AZURE_OAUTH_SCOPE", values.text, "https://graph.microsoft.com/.default",
        "https://graph.microsoft.com/.default", "Scope of a reference that names none.",
    )  # fmt: skip
    authority_host: str = setting(
        "NOETL_AZURE_AAD_HOST", values.http_url, "https://login.microsoftonline.com", "https://login.microsoftonline.com",
        "Where azure_oauth asks for tokens.",
    )  # fmt: skip


class ProxySettings(msgspec.Struct, frozen=True, kw_only=True):
    """Proxies of outgoing calls"""

    http: Secret[str] | None = setting(
        ("HTTP_PROXY", "http_proxy"), values.secret_text, None, "http://proxy:3128", "Proxy for http.", secret=True
    )
    https: Secret[str] | None = setting(
        ("HTTPS_PROXY", "https_proxy"), values.secret_text, None, "http://proxy:3128", "Proxy for https.", secret=True
    )
    all: Secret[str] | None = setting(
        ("ALL_PROXY", "all_proxy"), values.secret_text, None, "http://proxy:3128", "Proxy for the rest.", secret=True
    )
    exceptions: str | None = setting(
        ("NO_PROXY", "no_proxy"), values.text, None, "localhost,.svc", "Hosts that are called directly."
    )


class SecretSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Secret resolution"""

    audit_enabled: bool = setting(
        "NOETL_SECRET_AUDIT_ENABLED",
        values.boolean,
        True,
        "true",
        "Records every access to a secret, in the background.",
    )
    audit_required: bool = setting(
        "NOETL_SECRET_AUDIT_REQUIRED", values.boolean, False, "false",
        "Records it before the answer, and refuses the secret when that fails.",
    )  # fmt: skip
    audit_retention_days: int = setting(
        "NOETL_SECRET_AUDIT_RETENTION_DAYS", values.integer(0, 36_500, "days"), 365, "365",
        "Age at which records of the audit are deleted; 0 is never.",
    )  # fmt: skip
    cache_safety_margin_seconds: int = setting(
        "KEYCHAIN_CACHE_DYNAMIC_SAFETY_MARGIN_SECS", values.integer(0, 86_400, "seconds"), 60, "60",
        "Time before its expiry at which a cached secret is no longer used.",
    )  # fmt: skip
    cache_refresh_window_seconds: int = setting(
        "KEYCHAIN_CACHE_REFRESH_WINDOW_SECS", values.integer(0, 86_400, "seconds"), 60, "60",
        "Time before its expiry at which a cached secret is renewed in the background; at most 300, as none is kept for"
        " more than 600. 0 renews none, also not those with auto_renew.",
    )  # fmt: skip
    provider_ttl_seconds: int = setting(
        "NOETL_SECRET_PROVIDER_TTL_SECONDS", values.integer(0, 31_536_000, "seconds"), 0, "3600",
        "Age at which a provider, with its cloud token, is built anew; 0 is never.",
    )  # fmt: skip
    broker_registry: dict[str, str] = setting(
        "NOETL_SECRET_BROKER_REGISTRY", values.region_registry, dict[str, str](), '{"eu":"https://noetl.eu.example.com"}',
        "Servers of other regions that resolve the secrets which must stay there; http:// for this machine only.",
        default_text="empty",
    )  # fmt: skip
    broker_ca_file: str | None = setting(
        "NOETL_SECRET_BROKER_CA_FILE", values.text, None, "/etc/noetl/regions-ca.crt",
        "CA bundle of those servers, besides the authorities of the system; read again for every call.",
    )  # fmt: skip
    broker_timeout_seconds: int = setting(
        "NOETL_SECRET_BROKER_TIMEOUT_SECS", values.integer(1, 3600, "seconds"), 10, "10", "Limit of such a call."
    )
    gcp: GcpSettings = GcpSettings()
    kubernetes: KubernetesSettings = KubernetesSettings()
    vault: VaultSettings = VaultSettings()
    aws: AwsSettings = AwsSettings()
    azure: AzureSettings = AzureSettings()
    proxies: ProxySettings = ProxySettings()
