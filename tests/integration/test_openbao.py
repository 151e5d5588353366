"""Secrets of a real OpenBao server: the provider, and workflows whose steps call services with them."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from noetl.config.provider_settings import VaultSettings
from noetl.config.secret import Secret
from noetl.dev.control_plane import ControlPlane
from noetl.dev.worker import LocalWorker
from noetl.secrets.providers.base import ProviderError
from noetl.secrets.providers.retries import RetryingCall
from noetl.secrets.providers.vault import VaultSecrets
from noetl.secrets.web import HttpClient
from tests.openbao import ROOT_TOKEN, OpenBao

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from noetl.dev.services import EmbeddedNats
    from tests.conftest import MakeServer

MARK = "marked-Value-17"


@pytest.fixture(scope="module")
async def bao(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[OpenBao]:
    async with OpenBao(tmp_path_factory.mktemp("openbao")) as server:
        await server.put("app/duffel", token="hunter2")
        yield server


def provider(bao: OpenBao, **settings: Any) -> VaultSecrets:
    given: dict[str, Any] = {"token": Secret(ROOT_TOKEN), "ca_file": str(bao.ca_file), **settings}
    return VaultSecrets(VaultSettings(address=bao.url, **given), HttpClient())


async def test_a_secret_and_its_version_are_read(bao: OpenBao) -> None:
    await bao.put("versions", v="one")
    first = await provider(bao).fetch("secret/versions#v", "")
    await bao.put("versions", v="two", n=5)
    second = await provider(bao).fetch("versions#v", "")
    assert [(value.text.reveal(), value.version) for value in (first, second)] == [("one", "1"), ("two", "2")]
    with pytest.raises(ProviderError, match="key 'n' is not a string"):
        await provider(bao).fetch("versions#n", "")


async def test_mounts_and_paths_of_any_name_are_reached(bao: OpenBao) -> None:
    await bao.write("sys/mounts/team-kv", {"type": "kv", "options": {"version": "2"}})
    await bao.put("users/me@example.com", mount="team-kv", only="v")
    assert (await provider(bao).fetch("team-kv/users/me@example.com", "")).text.reveal() == "v"


async def test_a_namespace_is_entered(bao: OpenBao) -> None:
    await bao.write("sys/namespaces/team")
    await bao.write("sys/mounts/secret", {"type": "kv", "options": {"version": "2"}}, namespace="team")
    await bao.put("db", namespace="team", k="of the team")
    assert (await provider(bao, namespace="team").fetch("db", "")).text.reveal() == "of the team"
    with pytest.raises(ProviderError, match="HTTP 404 reading 'secret/db'"):
        await provider(bao).fetch("db", "")


async def test_a_token_reads_what_its_policy_lets_it(bao: OpenBao) -> None:
    policy = 'path "secret/data/app/*" { capabilities = ["read"] }'
    await bao.write("sys/policies/acl/app-reader", {"policy": policy})
    created = await bao.write("auth/token/create", {"policies": ["app-reader"], "ttl": "5m"})
    reader = provider(bao, token=Secret(created["auth"]["client_token"]))
    assert (await reader.fetch("secret/app/duffel", "")).text.reveal() == "hunter2"
    with pytest.raises(ProviderError, match=r"^vault: HTTP 403 reading 'secret/other': .*permission denied"):
        await reader.fetch("secret/other", "")


async def test_a_deleted_version_is_gone(bao: OpenBao) -> None:
    await bao.put("gone", k="v")
    await bao.write("secret/delete/gone", {"versions": [1]})
    with pytest.raises(ProviderError, match=r"^vault: HTTP 404 reading 'secret/gone'"):
        await provider(bao).fetch("gone", "")


async def test_only_its_own_authority_is_trusted(bao: OpenBao) -> None:
    with pytest.raises(ProviderError, match=r"^vault KV request: certificate not trusted"):
        await provider(bao, ca_file=None).fetch("app/duffel", "")


async def test_a_sealed_server_is_asked_again_and_then_told(tmp_path_factory: pytest.TempPathFactory) -> None:
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    async with OpenBao(tmp_path_factory.mktemp("sealed")) as server:
        await server.write("sys/seal")
        settings = VaultSettings(address=server.url, token=Secret(ROOT_TOKEN), ca_file=str(server.ca_file))
        vault = VaultSecrets(settings, RetryingCall(HttpClient(), sleep=pause))
        with pytest.raises(ProviderError, match=r"^vault: HTTP 503 reading 'secret/x': .*sealed"):
            await vault.fetch("x", "")
    assert len(pauses) == 2


class Service:
    """An HTTP service that notes with which ``authorization`` it is called."""

    def __init__(self) -> None:
        self.called: dict[str, str] = {}
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().rstrip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        self.called[first.split(" ")[1]] = headers.get("authorization", "")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}")
        await writer.drain()
        writer.close()


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    service = Service()
    server = await asyncio.start_server(service.serve, "127.0.0.1", 0)
    service.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield service
    server.close()


async def finished(api: ControlPlane, execution_id: str) -> dict[str, Any]:
    async with asyncio.timeout(60):
        while True:
            detail = await api.call("GET", f"/api/executions/{execution_id}")
            if detail["status"] != "RUNNING":
                return detail
            await asyncio.sleep(0.05)


async def test_steps_call_services_with_the_secrets_of_their_playbook(
    bao: OpenBao, make_server: MakeServer, nats: EmbeddedNats, service: Service
) -> None:
    await bao.put("app/api", token=MARK)
    await bao.put("basic", account=json.dumps({"username": "u", "password": MARK}))
    process = await make_server(
        {
            "VAULT_ADDR": bao.url, "VAULT_TOKEN": ROOT_TOKEN, "NOETL_VAULT_CA_FILE": str(bao.ca_file),
            "NOETL_LOG_LEVEL": "debug",
        }
    )  # fmt: skip
    api = ControlPlane(process.url)
    stop = asyncio.Event()
    worker = asyncio.create_task(LocalWorker(process.url, nats.url, worker_id="w", concurrency=2).run(stop))
    aliases = ("bearer", "basic", "stored")
    steps = [{"step": "start", "tool": {"kind": "noop"}, "next": [{"step": aliases[0]}]}]
    for alias, following in zip(aliases, [*aliases[1:], None], strict=True):
        tool = {"kind": "http", "method": "GET", "url": f"{service.url}/{alias}", "auth": alias}
        steps.append({"step": alias, "tool": tool, **({"next": [{"step": following}]} if following else {})})
    playbook = {
        "apiVersion": "noetl.io/v2",
        "kind": "Playbook",
        "metadata": {"name": "secrets", "path": "secrets/all"},
        "workload": {"where": "app"},
        "keychain": [
            {
                "name": "bearer", "provider": "vault", "type": "bearer",
                "map": {"token": "secret/{{ workload.where }}/api#token"},
            },
            {"name": "basic", "provider": "vault", "type": "basic"},
            {"name": "stored", "kind": "credential", "credential": "own_{{ env }}"},
        ],
        "workflow": steps,
    }  # fmt: skip
    await api.call("POST", "/api/credentials", {"name": "own_prod", "type": "bearer", "data": {"token": "stored"}})
    await api.call("POST", "/api/catalog/register", {"content": yaml.safe_dump(playbook)})
    started = await api.call("POST", "/api/execute", {"path": "secrets/all", "payload": {"env": "prod"}})
    detail = await finished(api, started["execution_id"])
    stop.set()
    await worker
    assert detail["status"] == "COMPLETED", detail
    basic = base64.b64encode(f"u:{MARK}".encode()).decode()
    assert service.called == {"/bearer": f"Bearer {MARK}", "/basic": f"Basic {basic}", "/stored": "Bearer stored"}
    assert MARK not in json.dumps(detail)
    assert MARK not in process.log_text()
