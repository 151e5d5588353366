"""RUST_LOG as operators write it, applied to Python's loggers."""

from __future__ import annotations

import pytest

from noetl.config.log_filter import DEBUG, ERROR, INFO, OFF, TRACE, WARNING, parse_log_filter
from noetl.config.problems import InvalidValueError
from noetl.observability.logging import logger_levels, target_of


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("", ERROR),
        ("off", OFF),
        ("WARN", WARNING),
        ("3", INFO),
        ("5", TRACE),
        ("noetl_server=debug", ERROR),
        ("info,warn", WARNING),
    ],
)
def test_default_level(text: str, level: int) -> None:
    assert parse_log_filter(text).default == level


@pytest.mark.parametrize(
    ("target", "level"),
    [
        ("noetl_server", DEBUG),
        ("noetl_server::http", WARNING),
        ("noetl_server::http::events", WARNING),
        ("noetl_server::https", DEBUG),
        ("noetl_serverless", INFO),
        ("sqlx::query", TRACE),
        ("other", INFO),
    ],
)
def test_longest_target_by_segments_wins(target: str, level: int) -> None:
    chosen = parse_log_filter("noetl_server::http=warn, info ,noetl_server=debug,sqlx")
    assert chosen.level_for(target) == level


@pytest.mark.parametrize("text", ["noetl_server=notalevel,info", "trace[[", "a=b=c", "=info", "a b"])
def test_invalid_filters_are_refused(text: str) -> None:
    with pytest.raises(InvalidValueError):
        parse_log_filter(text)


def test_span_directives_are_told_and_have_no_effect() -> None:
    chosen = parse_log_filter("info,noetl_server[request{method=GET}]=trace,[x]=debug")
    assert chosen.targets == {}
    assert chosen.ignored == ("noetl_server[request{method=GET}]=trace", "[x]=debug")


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("noetl.http.events", "noetl_server::http::events"),
        ("noetl.http.access", "tower_http::trace"),
        ("noetl.app", "noetl_control_plane"),
        ("nats.aio.client", "async_nats::aio::client"),
        ("noetlx.a", "noetlx::a"),
        ("asyncio", "asyncio"),
    ],
)
def test_targets_of_loggers(name: str, target: str) -> None:
    assert target_of(name) == target


def test_levels_of_the_manifests() -> None:
    levels = logger_levels(parse_log_filter("info,noetl_server=debug,sqlx=warn,noetl_server::http=error,mine::x=trace"))
    assert levels[""] == INFO
    assert levels["noetl"] == DEBUG
    assert levels["noetl.http"] == ERROR
    assert levels["noetl.http.access"] == INFO
    assert levels["noetl.app"] == INFO
    assert levels["asyncpg"] == WARNING
    assert levels["mine.x"] == TRACE
