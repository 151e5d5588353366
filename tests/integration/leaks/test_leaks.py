"""Nothing that a server puts out, in health or trouble, holds a secret that it was given (promise P7).

One server runs with the most talkative settings. Every route gets secrets, then the database refuses every write and
NATS is killed, and it all happens again; then logs, metrics, tables, messages and answers are searched.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote, urlsplit

import asyncpg
import pytest
from nats import connect

from noetl.config.load import GROUPS
from noetl.config.variable import variables_of
from noetl.dev.services import free_port
from tests.integration.command_line import noetl_server
from tests.integration.leaks.routes import push, registered_routes
from tests.integration.leaks.scenarios import SCENARIOS
from tests.integration.leaks.site import ANSWERS, COMMAND_LINE, LOG, MESSAGES, METRICS, TABLES, Families, Site

if TYPE_CHECKING:
    from nats.aio.msg import Msg

    from noetl.dev.services import EmbeddedNats, EmbeddedPostgres
    from tests.conftest import MakeServer

REFUSE = """
DO $$ DECLARE name text; BEGIN
    FOR name IN SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
        WHERE n.nspname = 'noetl' AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relname <> 'server_lease'
    LOOP EXECUTE format('ALTER TABLE %s ADD CONSTRAINT refuses_all CHECK (false) NOT VALID', name); END LOOP;
END $$
"""

ALLOW = REFUSE.replace("ADD CONSTRAINT refuses_all CHECK (false) NOT VALID", "DROP CONSTRAINT refuses_all")


LOCAL = "postgresql://u@127.0.0.1:5432/d", "nats://127.0.0.1:4222"
SECRET_TEXTS = (
    "NOETL_INTERNAL_API_TOKEN", "VAULT_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AZURE_CLIENT_SECRET",
    "AZURE_KEYVAULT_TOKEN", "NOETL_K8S_TOKEN",
)  # fmt: skip


def with_login(url: str, password: str) -> str:
    """A URL with a password; the services of the tests ask for none and take any."""
    parts = urlsplit(url)
    return parts._replace(
        netloc=f"{parts.username or 'u'}:{quote(password, safe='')}@{parts.hostname}:{parts.port}"
    ).geturl()


def marked_environment(families: Families, database_url: str, nats_url: str) -> dict[str, str]:
    """Settings whose secrets are marks; ``NOETL_ENCRYPTION_KEY`` has 32 bytes."""
    secret = families.configured
    return {
        "DATABASE_URL": with_login(database_url, secret.text("DATABASE_URL")),
        "NATS_URL": with_login(nats_url, secret.token("NATS_URL")),
        "NOETL_ENCRYPTION_KEY": base64.b64encode(
            (secret.token("NOETL_ENCRYPTION_KEY") + " " * 9).encode()[:32]
        ).decode(),
        "NOETL_ENCRYPTION_KEY_PREVIOUS": base64.b64encode((secret.fingerprint * 4).encode()[:32]).decode(),
        **{f"{kind}_PROXY": f"http://u:{secret.token(kind)}@127.0.0.1:9" for kind in ("HTTP", "HTTPS", "ALL")},
        **{name: secret.token(name) for name in SECRET_TEXTS},
        "OTEL_EXPORTER_OTLP_TRACES_HEADERS": f"authorization={secret.token('OTEL_EXPORTER_OTLP_TRACES_HEADERS')}",
        "RUST_LOG": "trace",
        "NOETL_DEBUG": "true",
    }


@pytest.fixture
async def site(make_server: MakeServer, database_url: str, nats: EmbeddedNats) -> Site:
    families = Families()
    environment = marked_environment(families, database_url, nats.url)
    server = await make_server(environment, database_url=environment["DATABASE_URL"], nats_url=environment["NATS_URL"])
    return Site(server, database_url, environment["NOETL_INTERNAL_API_TOKEN"], families)


async def use(site: Site, routes: list[tuple[str, str]]) -> None:
    """Push secrets in, in every way, and keep what can be seen then."""
    for scenario in SCENARIOS:
        await scenario(site)
    for method, template in routes:
        await push(site, method, template)
    await site.look()


async def refuse_connections(site: Site, administration: str) -> None:
    """Cut the server off from its database, and let it connect no more."""
    name = site.database_url.rpartition("/")[2]
    connection = cast("Any", await asyncpg.connect(administration))
    try:
        await connection.execute("UPDATE pg_database SET datallowconn = false WHERE datname = $1", name)
        await connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
    finally:
        await connection.close()


async def test_no_secret_comes_out_anywhere(
    site: Site, database_url: str, nats: EmbeddedNats, postgres: EmbeddedPostgres
) -> None:
    routes = await registered_routes(database_url)
    assert len(routes) > 80
    listener = await connect(nats.url)

    async def hear(message: Msg) -> None:
        site.hear(message)

    await listener.subscribe(">", cb=hear)
    await use(site, routes)
    await site.execute(REFUSE)
    site.troubled = True
    await use(site, routes)
    await site.execute(ALLOW)
    await listener.close()
    await nats.kill()
    await use(site, [])
    await refuse_connections(site, postgres.dsn)
    for path in ("/readyz", "/api/credentials/leaky?include_data=true"):
        assert (await site.send("GET", path)).status >= 500
    await site.server.stop()
    log = site.server.log_path.read_bytes()
    assert b"Log lines were dropped" not in log
    assert b'"stack":"Traceback' in log
    site.saw(LOG, "log", log)
    assert set(site.outputs) == {LOG, METRICS, TABLES, MESSAGES, ANSWERS, COMMAND_LINE}
    leaks = site.leaks()
    assert not leaks, f"{len(leaks)} leaks:\n" + "\n".join(leaks)


def other_environment(families: Families) -> dict[str, str]:
    """The settings that stand for some of `marked_environment`."""
    secret = families.configured
    return {
        "POSTGRES_PASSWORD": secret.text("POSTGRES_PASSWORD"),
        "NATS_URL": "nats://127.0.0.1:4222",
        "NATS_USER": "u",
        "NATS_PASSWORD": secret.text("NATS_PASSWORD"),
        "NOETL_CLUSTER_DSN": f"host=c;user=u;password={secret.token('NOETL_CLUSTER_DSN')}",
        "NOETL_SHARDS": f"host=s;user=u;password={secret.token('NOETL_SHARDS')}",
    }


@pytest.mark.parametrize("arguments", [("config",), ("config", "--json")])
@pytest.mark.parametrize("others", [False, True])
async def test_the_effective_settings_are_shown_without_secrets(arguments: tuple[str, ...], others: bool) -> None:
    families = Families()
    environment = other_environment(families) if others else marked_environment(families, *LOCAL)
    shown = await noetl_server(*arguments, environment=environment)
    assert shown.exit_code == 0, shown.errors
    assert "***" in shown.output
    assert "NOETL_INTERNAL_API_TOKEN" in shown.output
    assert families.configured.found_in((shown.output + shown.errors).encode()) == []


@pytest.mark.parametrize("arguments", [("config",), ("serve",)])
async def test_a_malformed_secret_is_refused_without_being_shown(arguments: tuple[str, ...]) -> None:
    families = Families()
    environment = marked_environment(families, *LOCAL)
    for name in ("NOETL_ENCRYPTION_KEY", "NOETL_ENCRYPTION_KEY_PREVIOUS"):
        environment[name] = families.configured.text(name)
    environment["DATABASE_URL"] = f"postgresql://u:{families.configured.text('url')}@127.0.0.1/d"
    environment["NATS_URL"] = f"nats://u:{families.configured.text('url')}@127.0.0.1:x"
    shown = await noetl_server(*arguments, environment=environment)
    assert shown.exit_code == 2
    for name in ("NOETL_ENCRYPTION_KEY", "DATABASE_URL", "NATS_URL"):
        assert f"{name}: " in shown.errors
    assert families.configured.found_in((shown.output + shown.errors).encode()) == []


@pytest.mark.parametrize("arguments", [("db", "upgrade"), ("serve",)])
async def test_a_database_that_is_not_there_is_told_without_secrets(arguments: tuple[str, ...]) -> None:
    families = Families()
    environment = marked_environment(families, "postgresql://u@127.0.0.1:9/d", "nats://127.0.0.1:9")
    environment |= {"POSTGRES_ACQUIRE_TIMEOUT": "0.5", "NOETL_WORKERS": "1", "NOETL_PORT": str(free_port())}
    shown = await noetl_server(*arguments, environment=environment)
    assert shown.exit_code == 1
    assert "Connect" in shown.errors
    assert families.configured.found_in((shown.output + shown.errors).encode()) == []


def test_every_secret_setting_is_marked() -> None:
    families = Families()
    marked = {
        **marked_environment(families, *LOCAL),
        **other_environment(families),
    }
    assert {variable.name for group in GROUPS for _, variable in variables_of(group) if variable.secret} <= set(marked)
