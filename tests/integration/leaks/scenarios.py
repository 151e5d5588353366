"""Secrets where they belong, on routes that take them. To watch more of the server, add a function to `SCENARIOS`."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.integration.leaks.site import Site

PLAYBOOK = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {{name: leaks, path: leaks/{name}}}
workload: {{region: here, password: {password}}}
workflow:
- step: start
  tool: {{kind: python, code: "print(1)", args: {{token: '{{{{ workload.password }}}}'}}}}
- step: end
  tool: {{kind: noop}}
"""
CREDENTIAL_FIELDS: Final = ("password", "token", "api_key", "anything")


async def credentials(site: Site) -> None:
    """Store, replace, list, read, seal and delete a credential; write it wrongly in every way."""
    mark = site.families.credential.text
    value = {name: mark(f"credential {name}") for name in CREDENTIAL_FIELDS}
    body: dict[str, Any] = {"name": "leaky", "type": "postgres", "data": value, "tags": ["a"]}
    await site.send("POST", "/api/credentials", body, ok=True)
    await site.send("POST", "/api/credentials", {**body, "data": {**value, "list": [mark("list")]}})
    await site.send("GET", "/api/credentials?q=leaky")
    await site.send("GET", "/api/credentials/leaky")
    await site.send("GET", "/api/credentials/leaky/sealed?worker_id=nobody")
    for wrong in ({"name": 5}, {"type": None}, {"tags": "x"}, {"tags": [5]}, {"description": 1}, {"name": "\0"}):
        await site.send("POST", "/api/credentials", {**body, **wrong})
    await site.send("POST", "/api/credentials", {"name": "x", "Data": mark("wrong member"), "type": "t"})
    await site.send("POST", "/api/credentials", f'{{"name":"x","type":"t","data":"{mark("cut")[:-4]}')
    await site.send("POST", "/api/credentials", {**body, "data": mark("x" * 10)}, [("content-type", "text/plain")])
    await site.send("PUT", "/api/credentials/leaky", body)


async def reads_of_credentials(site: Site) -> None:
    """What may show a value does: plainly, and sealed to a worker that has registered."""
    await site.reveal("/api/credentials/leaky?include_data=true&execution_id=5")
    public_key = base64.b64encode(X25519PrivateKey.generate().public_key().public_bytes_raw()).decode()
    registration = {
        "name": "leak-worker", "component_type": "worker_pool", "runtime": {"worker_public_key": public_key},
    }  # fmt: skip
    await site.send("POST", "/api/worker/pool/register", registration, ok=True)
    await site.send("GET", "/api/credentials/leaky/sealed?worker_id=leak-worker&execution_id=5", ok=True)


async def keychain(site: Site) -> None:
    """The same for entries of the keychain."""
    mark = site.families.credential.text
    catalog_id = (await _register(site, "keychain"))["catalog_id"]
    target = f"/api/keychain/{catalog_id}/leaky"
    body = {"data": {"token": mark("keychain")}, "expires_in": 3600, "renew_config": {"url": "https://x"}}
    await site.send("POST", target, body, ok=True)
    await site.reveal(target)
    await site.send("GET", f"/api/keychain/catalog/{catalog_id}")
    for wrong in ({"scope_type": "bogus"}, {"expires_in": "x"}, {"auto_renew": 1}, {"expires_in": 10**15}):
        await site.send("POST", target, {**body, **wrong})
    await site.send("POST", "/api/keychain/5/leaky", body)
    await site.send("POST", target, {"data": mark("without expiry")})
    await site.send("POST", target, {**body, "scope_type": "local", "execution_id": 5, "expires_in": -5})
    await site.send("GET", f"{target}?scope_type=local&execution_id=5")
    await site.send("DELETE", f"{target}?scope_type=local&execution_id=5")


async def damaged_rows(site: Site) -> None:
    """Rows that do not open."""
    if site.troubled:
        return  # nothing can be written then
    for damage in (
        "left(data_encrypted, 60)",
        'replace(data_encrypted, \'"p":"local"\', \'"p":"gcp-kms"\')',
        "jsonb_set(data_encrypted::jsonb, '{ct}', '\"AAAA\"')::text",
        "jsonb_set(data_encrypted::jsonb, '{dek,ct}', '\"%%\"')::text",
    ):
        await site.execute(f"UPDATE noetl.credential SET data_encrypted = {damage} WHERE name = 'leaky'")
        reply = await site.send("GET", "/api/credentials/leaky?include_data=true")
        assert reply.status == 500, reply.text
        await site.send("GET", "/api/credentials/leaky/sealed?worker_id=leak-worker")
        await site.send("POST", "/api/internal/wallet/rotate-kek", {}, internal=True)
        await site.send("GET", "/api/internal/wallet/key-status?states=true", internal=True)
        await credentials(site)


async def executions(site: Site) -> None:
    """An execution with secrets in its workload, a claim, and events whose results and metadata hold some."""
    families = site.families
    entry = await _register(site, "execution")
    payload = {"password": families.payload.text("workload"), "note": families.payload.text("workload")}
    started = await site.send("POST", "/api/execute", {"path": entry["path"], "payload": payload}, ok=True)
    if started.status == 200:
        site.kept["started"] = started.json
    execution_id = site.kept["started"]["execution_id"]
    await site.send("GET", f"/api/executions/{execution_id}", ok=True)
    await site.send("GET", f"/api/executions/{execution_id}/status", ok=True)
    events = await site.fetch(
        "SELECT event_id FROM noetl.event WHERE execution_id = $1 AND event_type = 'command.issued'", int(execution_id)
    )
    for event_id in events:
        await site.send("GET", f"/api/commands/{event_id}", ok=True)
        await site.send("POST", f"/api/commands/{event_id}/claim", {"worker_id": "leak-worker"}, ok=True)
    for members in _events(site):
        event = {"step": "start", "event_type": "call.progress", **members}
        await site.send("POST", "/api/events", {"execution_id": execution_id, "worker_id": "w", **event}, ok=True)
        await site.send("POST", "/api/events/batch", {"execution_id": execution_id, "events": [event, event]}, ok=True)
    for wrong in ({"step": 5}, {"event_id": "x"}, {"created_at": families.redacted.text("moment")}, {"meta": 5}):
        event = {"step": "start", "event_type": "call.done", **_events(site)[0], **wrong}
        await site.send("POST", "/api/events", {"execution_id": execution_id, **event})
        await site.send("POST", "/api/events/batch", {"execution_id": execution_id, "events": [event]})
    variables = {"variables": {"password": families.payload.text("variable")}}
    await site.send("POST", f"/api/vars/{execution_id}", variables, ok=True)
    result = {"name": "r", "data": {"x": families.payload.text("result")}}
    await site.send("PUT", f"/api/result/{execution_id}", result, ok=True)
    error = {"status": "FAILED", "error": families.payload.text("error")}
    await site.send("POST", f"/api/executions/{execution_id}/finalize", error)
    await site.send("POST", f"/api/executions/{execution_id}/cancel", {"reason": families.payload.text("reason")})


async def statements(site: Site) -> None:
    """SQL with a secret in it, right and wrong."""
    secret = site.families.payload.token("statement")
    for query in (f"SELECT '{secret}'", f"SELECT '{secret}'::integer", f"SELEC '{secret}'", f'SELECT "{secret}"'):
        await site.send("POST", "/api/postgres/execute", {"query": query}, internal=True)


async def playbooks(site: Site) -> None:
    """Playbooks that cannot be read, at the line with the secret."""
    mark = site.families.payload.text
    await site.send("POST", "/api/catalog/register", {"content": f"a: b: '{mark('yaml')}"})
    await site.send("POST", "/api/catalog/register", {"content": f"kind: [{mark('kind')}]"})
    await site.send("POST", "/api/catalog/register", {"content": base64.b64encode(mark("base64").encode()).decode()})
    broken = PLAYBOOK.replace("workload.password", "workload.password | nofilter('{password}')")
    await site.send("POST", "/api/catalog/register", {"content": broken.format(name="b", password="{{" + mark("t"))})
    await site.send("POST", "/api/execute", {"path": "leaks/b"})


def _events(site: Site) -> list[dict[str, Any]]:
    """Events whose secrets the sanitiser must see: by the name of a member, or by their looks (spec 40, section 14)."""
    text, token = site.families.redacted.text, site.families.redacted.token
    secret = {
        "password": text("result.password"),
        "nested": [{"Api-Key": text("deep"), "author": {"x": [text("object under a name")]}}],
        "header": f"Bearer {token('bearer')}",
        "login": "basic " + base64.b64encode(f"u:{text('basic')}".encode()).decode(),
        "jwt": f"eyJ{token('jwt')}.{token('jwt')}.sig",
        "pem": f"-----BEGIN RSA PRIVATE KEY-----\n{text('pem')}\n-----END RSA PRIVATE KEY-----",
        "long": base64.b64encode(text("40 characters").encode()).decode() * 2,
    }
    return [
        {"context": secret, "meta": {"token": text("meta"), "attempts": 1}},
        {"payload": {"result": secret, "status": "success"}, "meta": {"client_secret": text("meta")}},
        {"context": {"call_index": 0, "result": {"status": "success", "context": {"data": secret}}}},
        {"event_type": "call.error", "status": "FAILED", "context": {"error": secret}, "meta": secret},
        {"event_type": "no.such.type", "context": secret, "meta": {"deep": [secret]}},
    ]


async def _register(site: Site, name: str) -> dict[str, Any]:
    """The catalog entry of a playbook, in trouble the one of better times."""
    content = PLAYBOOK.format(name=name, password=f"'{site.families.payload.token('playbook')}'")
    reply = await site.send("POST", "/api/catalog/register", {"content": content}, ok=True)
    if reply.status == 200:
        site.kept[name] = reply.json
    return site.kept[name]


SCENARIOS: Final[tuple[Callable[[Site], Awaitable[None]], ...]] = (
    credentials,
    reads_of_credentials,
    keychain,
    damaged_rows,
    executions,
    statements,
    playbooks,
)
