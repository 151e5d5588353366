"""What overrides, completes or contradicts what; and what is never shown."""

from __future__ import annotations

import pickle
import traceback
from typing import TYPE_CHECKING

import pytest

from noetl.config import ConfigurationError, Secret, effective_settings, load_settings

if TYPE_CHECKING:
    from pathlib import Path

KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="


def refused(environ: dict[str, str]) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(environ)
    return str(caught.value)


def test_service_links_of_kubernetes_count_as_unset() -> None:
    settings = load_settings({"NOETL_PORT": "tcp://10.1.2.3:8082", "POSTGRES_PORT": "tcp://10.1.2.4:5432"})
    assert (settings.http.port, settings.database.port) == (8082, 5432)
    assert [notice.level for notice in settings.notices] == ["INFO", "INFO"]


def test_public_address_follows_the_port_and_is_kept_verbatim() -> None:
    assert load_settings({"NOETL_PORT": "9000"}).http.public_server_url == "http://localhost:9000"
    assert load_settings({"NOETL_PUBLIC_SERVER_URL": "http://s:1/"}).http.public_server_url == "http://s:1/"


@pytest.mark.parametrize(("text", "expected"), [("[::1]", "::1"), ("::1", "::1"), ("localhost", "localhost")])
def test_bind_address_forms(text: str, expected: str) -> None:
    assert load_settings({"NOETL_HOST": text}).http.host == expected


@pytest.mark.parametrize("text", ["0", "1023", "+7"])
def test_machine_id_in_range(text: str) -> None:
    identity = load_settings({"NOETL_SERVER_MACHINE_ID": text}).identity
    assert (identity.machine_id, identity.machine_id_source) == (int(text), "NOETL_SERVER_MACHINE_ID")


@pytest.mark.parametrize("text", ["1024", "-1", "abc", "70000"])
def test_machine_id_out_of_range_keeps_the_phrase_that_operators_search(text: str) -> None:
    message = refused({"NOETL_SERVER_MACHINE_ID": text})
    assert message.startswith("NOETL_SERVER_MACHINE_ID: server_machine_id must fit in 10 bits")


@pytest.mark.parametrize(
    ("environ", "machine_id", "source"),
    [
        ({"HOSTNAME": "pod-0", "COMPUTERNAME": "winbox"}, 601, "derived from HOSTNAME"),
        ({"HOSTNAME": "", "COMPUTERNAME": "winbox"}, 182, "derived from COMPUTERNAME"),
        ({"HOSTNAME": "сервер-1"}, 875, "derived from HOSTNAME"),
    ],
)
def test_machine_id_derives_from_a_name(environ: dict[str, str], machine_id: int, source: str) -> None:
    identity = load_settings(environ).identity
    assert (identity.machine_id, identity.machine_id_source) == (machine_id, source)


def test_machine_id_derives_from_the_system_before_the_constant() -> None:
    assert load_settings({}).identity.machine_id_source == "derived from the system's host name"


def test_derived_machine_id_in_a_sharded_cluster_is_noticed() -> None:
    notices = load_settings({"HOSTNAME": "a", "NOETL_SHARD_COUNT": "2"}).notices
    assert any("NOETL_SERVER_MACHINE_ID" in notice.message for notice in notices)


def test_shard_phrases_that_operators_search() -> None:
    assert "NOETL_SHARD_INDEX 4 >= NOETL_SHARD_COUNT 4; shard_index must be in 0..shard_count" in refused(
        {"NOETL_SHARD_COUNT": "4", "NOETL_SHARD_INDEX": "4"}
    )
    assert "NOETL_SHARD_COUNT must be >= 1; got 0" in refused({"NOETL_SHARD_COUNT": "0"})
    assert "NOETL_SHARD_INDEX 1 >= NOETL_SHARD_COUNT 1" in refused({"NOETL_SHARD_INDEX": "1"})


def test_shards_take_pool_and_tls_of_the_main_database() -> None:
    settings = load_settings(
        {
            "NOETL_SHARDS": " host=a;user=u;password=p=1 ,, host=b;user=v;port=6000;dbname=d;;",
            "NOETL_CLUSTER_DSN": "host=c;user=w",
            "PGSSLMODE": "require",
            "POSTGRES_MAX_CONNECTIONS": "7",
            "POSTGRES_PASSWORD": "main",
        }
    )
    first, second = settings.sharding.shards
    assert (first.host, first.port, first.user, first.reveal_password(), first.database) == (
        "a",
        5432,
        "u",
        "p=1",
        "noetl",
    )
    assert (second.host, second.port, second.database) == ("b", 6000, "d")
    assert first.ssl_mode == "require"
    assert first.max_connections == 7
    assert settings.sharding.cluster is not None
    assert settings.sharding.cluster.reveal_password() == ""
    assert settings.identity.shard_count == 2


@pytest.mark.parametrize(
    ("dsn", "phrase"),
    [
        ("host=a", "missing required key: user"),
        ("user=a", "missing required key: host"),
        ("host=a;user=u;sslmode=x", "unknown key: sslmode"),
        ("host=a;user=u;port=x", "invalid port: x"),
        ("host=a;user", "malformed key=value pair"),
    ],
)
def test_malformed_shards_are_fatal(dsn: str, phrase: str) -> None:
    assert phrase in refused({"NOETL_SHARDS": dsn})


def test_number_of_shard_databases_and_shard_count_must_agree() -> None:
    message = refused({"NOETL_SHARDS": "host=a;user=u,host=b;user=u", "NOETL_SHARD_COUNT": "3"})
    assert "NOETL_SHARDS names 2 databases and NOETL_SHARD_COUNT is 3" in message


def test_database_url_overrides_what_it_has() -> None:
    database = load_settings(
        {
            "DATABASE_URL": "postgresql://me%40x:p%2Fw@db.example:6000/main?sslmode=require&application_name=app&foo=1",
            "POSTGRES_HOST": "other",
            "POSTGRES_USER": "other",
            "PGSSLMODE": "disable",
        }
    )
    settings = database.database
    assert (settings.host, settings.port, settings.user, settings.database) == ("db.example", 6000, "me@x", "main")
    assert (settings.reveal_password(), settings.ssl_mode, settings.application_name) == ("p/w", "require", "app")
    assert settings.connection_options == {"sslmode": "require"}
    assert any("foo" in notice.message for notice in database.notices)


def test_database_url_leaves_what_it_lacks() -> None:
    settings = load_settings(
        {"DATABASE_URL": "postgres://[::1]", "POSTGRES_USER": "u", "POSTGRES_DATABASE": "d"}
    ).database
    assert (settings.host, settings.user, settings.database, settings.port) == ("::1", "u", "d", 5432)


def test_application_name_is_the_server_name() -> None:
    assert load_settings({"NOETL_SERVER_NAME": "eu"}).database.application_name == "eu"
    assert load_settings({"NOETL_SERVER_NAME": "eu", "PGAPPNAME": "pg"}).database.application_name == "pg"


def test_statement_cache_has_two_names() -> None:
    assert load_settings({"NOETL_PG_STATEMENT_CACHE_SIZE": "0"}).database.statement_cache_capacity == 0


def test_nats_names_and_precedence() -> None:
    assert not load_settings({}).nats.configured
    assert load_settings({"NOETL_NATS_URL": "nats://a"}).nats.servers == ("nats://a:4222",)
    both = load_settings({"NATS_URL": "tls://b:1, c", "NOETL_NATS_URL": "nats://a"}).nats
    assert both.servers == ("tls://b:1", "nats://c:4222")


def test_nats_login_from_url_is_decoded_and_taken_out() -> None:
    nats = load_settings({"NATS_URL": "nats://u%40x:p%3Aw@h:4222,nats://u%40x:p%3Aw@i"}).nats
    assert (nats.servers, nats.user) == (("nats://h:4222", "nats://i:4222"), "u@x")
    assert nats.password == Secret("p:w")


def test_nats_login_variables_win_over_the_url() -> None:
    nats = load_settings(
        {"NATS_URL": "nats://u:p@h", "NATS_USER": "v", "NATS_PASSWORD": "q", "NOETL_NATS_USER": "w"}
    ).nats
    assert (nats.user, nats.password, nats.token) == ("v", Secret("q"), None)


def test_half_a_nats_login_is_completed_by_the_url() -> None:
    for url in ("nats://u:p@h", "nats://u@h"):
        nats = load_settings({"NATS_URL": url, "NATS_PASSWORD": "q"}).nats
        assert (nats.user, nats.password, nats.token) == ("u", Secret("q"), None)
    settings = load_settings({"NATS_URL": "nats://h", "NATS_USER": "v"})
    assert (settings.nats.user, settings.nats.password) == ("v", None)
    assert any("only one of NATS_USER" in notice.message for notice in settings.notices)


def test_nats_login_without_server_is_noticed() -> None:
    assert any("no effect" in notice.message for notice in load_settings({"NATS_USER": "v"}).notices)


def test_nats_url_without_user_has_no_login_and_single_name_is_a_token() -> None:
    assert load_settings({"NATS_URL": "nats://:p@h"}).nats.user is None
    assert load_settings({"NATS_URL": "nats://tok@h"}).nats.token == Secret("tok")


def test_lanes_leave_a_connection_for_reads() -> None:
    assert load_settings({}).ledger.lanes == 4
    assert load_settings({"POSTGRES_MAX_CONNECTIONS": "3"}).ledger.lanes == 2
    assert load_settings({"POSTGRES_MAX_CONNECTIONS": "1"}).ledger.lanes == 1
    assert "NOETL_LANES" in refused({"POSTGRES_MAX_CONNECTIONS": "3", "NOETL_LANES": "3"})


def test_minimum_above_maximum_is_accepted_and_noticed() -> None:
    settings = load_settings({"POSTGRES_MIN_CONNECTIONS": "20"})
    assert settings.database.min_connections == 10
    assert any("POSTGRES_MIN_CONNECTIONS 20" in notice.message for notice in settings.notices)


def test_claim_limit_follows_the_reaper() -> None:
    commands = load_settings({"NOETL_COMMAND_REAPER_HEALTHY_HARD_TIMEOUT_SECONDS": "90"}).commands
    assert commands.healthy_worker_hard_timeout_seconds == 90


def test_encryption_key_absent_blank_and_malformed() -> None:
    assert load_settings({}).security.encryption_key is None
    assert load_settings({"NOETL_ENCRYPTION_KEY": " \n"}).security.encryption_key is None
    key = load_settings({"NOETL_ENCRYPTION_KEY": KEY}).security.encryption_key
    assert key is not None
    assert key.reveal() == b"0123456789abcdef0123456789abcdef"
    assert "Invalid key length: expected 32 bytes, got 3" in refused({"NOETL_ENCRYPTION_KEY": "YWJj"})
    assert "Invalid base64 key" in refused({"NOETL_ENCRYPTION_KEY": "a-b_"})


def test_kms_provider() -> None:
    assert "unknown NOETL_KMS_PROVIDER 'bogus' (expected 'local' or 'gcp-kms')" in refused(
        {"NOETL_KMS_PROVIDER": "bogus"}
    )
    assert "NOETL_GCP_KMS_KEY" in refused({"NOETL_KMS_PROVIDER": "gcp-kms"})


def test_tls_files(tmp_path: Path) -> None:
    certificate, key, empty = tmp_path / "c.pem", tmp_path / "k.pem", tmp_path / "e.pem"
    certificate.write_text("-----BEGIN CERTIFICATE-----\n")
    key.write_text("-----BEGIN EC PRIVATE KEY-----\n")
    empty.write_text("")
    assert load_settings({"NOETL_TLS_CERT": str(certificate), "NOETL_TLS_KEY": str(key)}).tls.key == str(key)
    assert "TLS misconfigured: set both" in refused({"NOETL_TLS_CERT": str(certificate)})
    message = refused({"NOETL_TLS_CERT": str(empty), "NOETL_TLS_KEY": str(tmp_path / "none")})
    assert f"TLS: no certificates in '{empty}'" in message
    assert f"TLS: open '{tmp_path / 'none'}': No such file" in message


@pytest.mark.parametrize(("given", "taken"), [("0", 0), ("300", 300), ("301", 300), ("600", 300)])
def test_a_refresh_window_is_at_most_half_of_the_time_that_secrets_are_kept(given: str, taken: int) -> None:
    settings = load_settings({"KEYCHAIN_CACHE_REFRESH_WINDOW_SECS": given})
    assert settings.secrets.cache_refresh_window_seconds == taken
    told = [notice.message for notice in settings.notices if "REFRESH_WINDOW" in notice.message]
    assert bool(told) is (given != str(taken))


def test_kubernetes_api_address() -> None:
    injected = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "6443"}
    assert load_settings(injected).secrets.kubernetes.effective_api_url == "https://10.0.0.1:6443"
    assert load_settings({}).secrets.kubernetes.effective_api_url == "https://kubernetes.default.svc"


def test_broker_registry_drops_empty_addresses() -> None:
    registry = load_settings({"NOETL_SECRET_BROKER_REGISTRY": '{"eu":"https://e","us":" "}'}).secrets.broker_registry
    assert registry == {"eu": "https://e"}
    assert "NOETL_SECRET_BROKER_REGISTRY" in refused({"NOETL_SECRET_BROKER_REGISTRY": "[1]"})


@pytest.mark.parametrize("address", ["http://127.0.0.1:8082", "http://[::1]/", "http://localhost", "https://noetl.eu"])
def test_a_broker_that_gets_the_token_unseen_is_accepted(address: str) -> None:
    registry = {"NOETL_SECRET_BROKER_REGISTRY": f'{{"eu":"{address}"}}'}
    assert load_settings(registry).secrets.broker_registry == {"eu": address}


@pytest.mark.parametrize("address", ["http://noetl.eu", "http://10.0.0.1:8082", "http://localhost.noetl.eu"])
def test_a_broker_that_gets_the_token_in_clear_is_refused(address: str) -> None:
    message = refused({"NOETL_SECRET_BROKER_REGISTRY": f'{{"eu":"{address}"}}'})
    assert f'"{address}" would send NOETL_INTERNAL_API_TOKEN in clear: use https://' in message


def test_manifest_of_the_reference_is_accepted() -> None:
    settings = load_settings(
        {
            "NOETL_HOST": "0.0.0.0",
            "NOETL_PORT": "8082",
            "RUST_LOG": "info,noetl_server=debug,sqlx=warn",
            "POSTGRES_HOST": "postgres.postgres.svc.cluster.local",
            "POSTGRES_PORT": "5432",
            "POSTGRES_USER": "noetl",
            "POSTGRES_PASSWORD": "noetl",
            "POSTGRES_DATABASE": "noetl",
            "NOETL_SCHEMA": "noetl",
            "NOETL_NATS_URL": "nats://noetl:noetl@nats.nats.svc.cluster.local:4222",
            "NOETL_PUBLIC_SERVER_URL": "http://noetl-server-rust.noetl.svc.cluster.local:8082",
            "NOETL_INTERNAL_API_TOKEN": "t",
        }
    )
    assert settings.nats.servers == ("nats://nats.nats.svc.cluster.local:4222",)
    assert settings.notices == ()


def test_dotenv_of_a_parent_stands_in_and_the_environment_wins(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(
        "# comment\nexport NOETL_PORT=9001 # free\nNOETL_HOST='127.0.0.1'\n"
        'POSTGRES_PASSWORD="a#b \\$c ${WORD}"\nnonsense here with s3cret\nPOSTGRES_USER=x\n',
        encoding="utf-8",
    )
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    settings = load_settings({"NOETL_Host": "::1", "WORD": "w", "POSTGRES_USER": ""}, below)
    assert (settings.http.port, settings.http.host) == (9001, "::1")
    assert settings.database.reveal_password() == "a#b $c w"
    assert settings.database.user == "noetl"
    (notice,) = settings.notices
    assert "line 5" in notice.message
    assert "s3cret" not in notice.message


def test_without_directory_no_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("NOETL_PORT=1")
    monkeypatch.chdir(tmp_path)
    assert load_settings({}).http.port == 8082


def test_empty_log_filter_is_errors_only_and_an_invalid_one_is_noticed() -> None:
    empty = load_settings({"RUST_LOG": ""}).logging.filter
    assert empty is not None
    assert empty.default == 40
    invalid = load_settings({"RUST_LOG": "noetl_server=notalevel,info"})
    assert invalid.logging.filter is None
    assert "RUST_LOG" in invalid.notices[0].message


SECRETS = {
    "DATABASE_URL": "postgres://u:hunter2@h/d",
    "NATS_URL": "nats://u:hunter2@h",
    "NOETL_SHARDS": "host=a;user=u;password=hunter2",
    "POSTGRES_PASSWORD": "hunter2",
    "NOETL_INTERNAL_API_TOKEN": "hunter2",
    "NOETL_ENCRYPTION_KEY": KEY,
    "NOETL_ENCRYPTION_KEY_PREVIOUS": KEY,
    "VAULT_TOKEN": "hunter2",
    "HTTPS_PROXY": "http://u:hunter2@p",
}


def test_no_secret_in_any_text_of_the_settings() -> None:
    settings = load_settings(SECRETS)
    texts = [repr(settings), str(settings), f"{settings}", *(row.value for row in effective_settings(settings))]
    assert all("hunter2" not in text and "0123456789abcdef" not in text and KEY not in text for text in texts)
    assert pickle.loads(pickle.dumps(settings)) == settings


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("DATABASE_URL", "postgres://u:hunter2/x@h/d"),
        ("DATABASE_URL", "postgres://u:p#hunter2@h/d"),
        ("DATABASE_URL", "mysql://u:hunter2@h/d"),
        ("DATABASE_URL", "postgres://u:hunter2@h:99999/d"),
        ("DATABASE_URL", "postgres://hunter2!/d"),
        ("NATS_URL", "nats://u:hunter2@h:port"),
        ("NATS_URL", "nats://u:hunter2@h,nats://u:hunter3@i"),
        ("NOETL_SHARDS", "host=a;user=u;password=x;hunter2"),
        ("NOETL_SHARDS", "host=a;user=u;password=x;hunter2=1"),
        ("NOETL_SHARDS", "host=a;user=u;password=x,hunter2"),
        ("NOETL_ENCRYPTION_KEY", "hunter2hunter2"),
        ("NOETL_ENCRYPTION_KEY", "hunter2!"),
    ],
)
def test_no_secret_in_messages(variable: str, text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings({variable: text})
    rendered = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert "hunter" not in rendered
    assert variable in str(caught.value)


def test_error_travels_between_processes() -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings({"NOETL_PORT": "x"})
    copy = pickle.loads(pickle.dumps(caught.value))
    assert copy.problems == caught.value.problems


def test_one_database_cannot_be_two_shards() -> None:
    twice = "host=a;user=u;database=x,host=b;user=u;database=x,host=a;user=other;database=x"
    assert "NOETL_SHARDS: shards 0 and 2 are one database (x on a:5432)" in refused({"NOETL_SHARDS": twice})
