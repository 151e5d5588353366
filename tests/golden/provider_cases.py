"""Keychain entries for every provider, and the services that answer them: for the reference, and for ours."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from tests.unit.secrets.cloud import Cloud

if TYPE_CHECKING:
    from tests.unit.secrets.cloud import Asked

SHOWN_HEADERS = ("accept", "authorization", "content-type", "metadata", "x-amz-target", "x-vault-token")
TOKEN_REQUEST = "GET /meta"  # made again for every entry by the reference, kept by ours


def environment(url: str, identity_file: str) -> dict[str, str]:
    """Settings of a server whose providers are all at ``url``."""
    return {
        "VAULT_ADDR": url, "VAULT_TOKEN": "vault-token", "GOOGLE_CLOUD_PROJECT": "p",
        "NOETL_GCP_SM_ENDPOINT": f"{url}/sm",
        "NOETL_GCP_METADATA_TOKEN_URL": f"{url}/meta", "NOETL_GCP_IAM_CREDENTIALS_ENDPOINT": f"{url}/iam",
        "NOETL_K8S_API_URL": url, "NOETL_K8S_TOKEN": "k8s-token", "NOETL_K8S_NAMESPACE": "ns1",
        "AWS_ACCESS_KEY_ID": "AK", "AWS_SECRET_ACCESS_KEY": "SK", "AWS_REGION": "eu-west-1",
        "NOETL_AWS_SM_ENDPOINT": f"{url}/aws", "NOETL_AWS_STS_ENDPOINT_OVERRIDE": f"{url}/sts",
        "AWS_WEB_IDENTITY_TOKEN_FILE": identity_file, "AZURE_TENANT_ID": "good", "AZURE_CLIENT_ID": "c",
        "AZURE_CLIENT_SECRET": "s", "NOETL_AZURE_AAD_HOST": f"{url}/aad", "AZURE_KEYVAULT_TOKEN": "azure-token",
        "NOETL_SERVER_REGION": "us-east-1",
    }  # fmt: skip


def _vault(data: Any) -> dict[str, Any]:
    return {"data": {"data": data, "metadata": {"version": 2}}}


def _kubernetes(data: dict[str, str] | None) -> dict[str, Any]:
    return {"metadata": {"resourceVersion": "1"}, **({} if data is None else {"data": data})}


def _accessed(data: str) -> dict[str, Any]:
    return {"name": "projects/1/secrets/s/versions/4", "payload": {"data": data}}


MINT = "POST /iam/projects/-/serviceAccounts/{}:generateAccessToken"
ANSWERS: dict[str, Any] = {
    **{
        f"GET /v1/secret/data/{name}": _vault({"k": "v"}) for name in ("one", "two", "three", "four", "five", "a%20b/c")
    },
    "GET /v1/secret/data/several": _vault({"b": "v", "a": "w", "n": 3}),
    "GET /v1/secret/data/empty": _vault({}),
    "GET /v1/secret/data/null": _vault(None),
    "GET /v1/secret/data/broken": b"{broken",
    "GET /v1/secret/data/denied": (403, b"x" * 500),
    TOKEN_REQUEST: {"access_token": "workload-token", "expires_in": 3600},
    "GET /sm/projects/p/secrets/one/versions/latest:access": _accessed("Z3Y="),
    "GET /sm/projects/p/secrets/two/versions/latest:access": _accessed("Z3Y="),
    "GET /sm/projects/p/secrets/two/versions/4:access": _accessed("Z3Y="),
    "GET /sm/projects/p/secrets/broken/versions/latest:access": _accessed("%%"),
    "GET /sm/projects/p/secrets/binary/versions/latest:access": _accessed("/w=="),
    MINT.format("a@b"): {"accessToken": "minted", "expireTime": "2099-01-01T00:00:00Z"},
    MINT.format("soon@b"): {"accessToken": "minted", "expireTime": "soon"},
    "GET /api/v1/namespaces/ns1/secrets/one": _kubernetes({"k": "a3Y="}),
    "GET /api/v1/namespaces/ns1/secrets/several": _kubernetes({"k": "a3Y=", "a": "eA=="}),
    "GET /api/v1/namespaces/ns1/secrets/none": _kubernetes(None),
    "POST /aad/good/oauth2/v2.0/token": {"access_token": "aad-token", "expires_in": 3600},
    "POST /aad/other/oauth2/v2.0/token": (401, b'{"error":"invalid_client"}'),
}
AWS_SECRETS: dict[str, Any] = {
    "json": {"SecretString": '{"s":"x","n":5,"f":1.5,"b":true,"z":null,"o":{}}', "VersionId": "v"},
    "plain": {"SecretString": "text"},
    "binary": {"SecretBinary": "AA=="},
}
ROLE = "arn:aws:iam::1:role/good"

PARSER = "the detail of a parser"
NO_REQUEST = "what is no name is refused before any request"
_REFERENCES: dict[str, list[str | tuple[str, str]]] = {
    "vault": [
        "secret/one#k", "two", "secret/three", "secret/several#a", "secret/several", "secret/several#n",
        "secret/several#zz", "secret/empty", ("secret/broken#k", PARSER), ("secret/null#k", PARSER), "secret/denied#k",
        "secret/missing", "kv/", "#k", "secret/one#", "", "secret/one#k#x", "secret/a b/c",
        ("secret/../../sys/x", NO_REQUEST),
    ],
    "gcp": [
        "one", "projects/p/secrets/two", "projects/p/secrets/two/versions/4", "missing", "broken", "binary",
        ("", NO_REQUEST), ("a/../b", NO_REQUEST),
    ],
    "gcp_iam": ["a@b", "a@b#s", ("soon@b", PARSER), "x@y", "", " a@b # t", "#s", ("a/b", NO_REQUEST)],
    "k8s": ["one", "one/k", "ns1/one/k", "several", "several/zz", "none", "missing", "a/b/c/d", "", "/k", "one/"],
    "aws": [
        "", ("#k", NO_REQUEST), "eu-west-1:", "plain", "json#s", "json#n", "json#f", "json#b", "json#z", "json#o",
        "json#q", ("plain#x", PARSER), "binary", "missing", "ap-south-1:plain", "arn:x:y", "plain#", " json#s ",
    ],
    "aws_sts": [ROLE, f"{ROLE}#me", f"eu-west-1:{ROLE}", "arn:bad", "", "friendly"],
    "azure_oauth": ["", "api/.default", "good:api/.default", "other:x", "https://x/y", "api://x/.default"],
    "azure": ["", "db/", "/db", "v-1/db#", "db#", "db", ("evil.example?/db", NO_REQUEST)],
    "bogus": ["x"],
}  # fmt: skip


def _entries() -> list[tuple[dict[str, Any], str | None]]:
    entries: list[tuple[dict[str, Any], str | None]] = []
    for provider, references in _REFERENCES.items():
        for given in references:
            reference, deviation = (given, None) if isinstance(given, str) else given
            entry = {"name": f"{provider}-{len(entries)}", "provider": provider, "map": {"v": reference}}
            entries.append((entry, deviation))
    vault: dict[str, Any] = {"provider": "vault"}
    europe = {**vault, "region": "eu"}
    entries += [
        ({"name": "four", **vault}, None),
        ({"name": "rendered", **vault, "map": {"v": "secret/{{ w }}#k"}}, None),
        ({"name": "unknown-filter", **vault, "map": {"v": "secret/{{ w | nofilter }}#k"}}, None),
        ({"name": "unknown-name", **vault, "map": {"v": "secret/{{ missing }}#k"}}, None),
        ({"name": "no-map", **vault, "map": {}}, None),
        ({"name": "strict", **europe, "map": {"v": "secret/one#k"}, "residency": "strict"}, None),
        ({"name": "no-provider"}, None),
    ]
    return entries


ENTRIES = _entries()
"""Entries, each with the reason why our error has another text (or None)."""
PLAYBOOK: dict[str, Any] = {
    "apiVersion": "noetl.io/v2",
    "kind": "Playbook",
    "metadata": {"name": "golden-providers", "path": "golden/providers"},
    "workload": {"w": "five"},
    "keychain": [entry for entry, _ in ENTRIES],
    "workflow": [{"step": "start", "tool": {"kind": "noop"}}],
}


def _shown(value: str) -> str:
    """A header without what differs each time: the day and the signature of AWS."""
    return re.sub(r"/\d{8}/(.*?),.*", r"/<day>/\1", value) if value.startswith("AWS4") else value


class ScriptedCloud(Cloud):
    """Answers as `ANSWERS` says; AWS has one address for all secrets, and for all roles."""

    def answer_to(self, request: Asked) -> tuple[int, bytes]:
        if request.line.startswith("POST /aws"):
            found = AWS_SECRETS.get(json.loads(request.body)["SecretId"])
            return (
                (400, b'{"__type":"ResourceNotFoundException"}') if found is None else (200, json.dumps(found).encode())
            )
        if request.line.startswith("POST /sts"):
            return (403, b"<Error/>") if b"bad" in request.body else (200, json.dumps(ASSUMED).encode())
        self.answers = ANSWERS
        return super().answer_to(request)

    def shown(self) -> list[dict[str, Any]]:
        """What was asked since the last call, as it is recorded."""
        seen = [one for one in self.asked if one.line != TOKEN_REQUEST]
        self.asked.clear()
        return [
            {
                "line": one.line.rstrip("/"),
                "headers": {name: _shown(one.headers[name]) for name in SHOWN_HEADERS if name in one.headers},
                "body": one.body.decode(),
            }
            for one in seen
        ]  # fmt: skip


ASSUMED: dict[str, Any] = {
    "AssumeRoleWithWebIdentityResponse": {
        "AssumeRoleWithWebIdentityResult": {
            "Credentials": {
                "AccessKeyId": "AK", "SecretAccessKey": "SK", "SessionToken": "ST", "Expiration": 4070908800.0,
            },
            "AssumedRoleUser": {"AssumedRoleId": "R"},
        }
    }
}  # fmt: skip
