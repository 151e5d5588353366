"""Addresses with credentials inside: database URLs, shard DSNs, NATS URLs."""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

from noetl.config.problems import InvalidValueError
from noetl.config.secret import Secret
from noetl.config.values import database_host, integer, shown

SSL_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
NATS_PORT: Final = 4222
NATS_SCHEMES: Final = ("nats", "tls", "ws", "wss")

_URL_OPTIONS: Final = {
    "sslmode": "ssl_mode",
    "ssl-mode": "ssl_mode",
    "sslrootcert": "ssl_root_certificate",
    "ssl-root-cert": "ssl_root_certificate",
    "sslcert": "ssl_certificate",
    "ssl-cert": "ssl_certificate",
    "sslkey": "ssl_key",
    "ssl-key": "ssl_key",
    "application_name": "application_name",
    "options": "options",
    "host": "host",
    "port": "port",
    "user": "user",
    "password": "password",
    "dbname": "database",
    "statement-cache-capacity": "statement_cache_capacity",
}
_LIBPQ_KEYS: Final = frozenset(
    {
        *("application_name", "channel_binding", "connect_timeout", "hostaddr", "keepalives", "name", "options"),
        *(
            "passfile",
            "pool",
            "schema",
            "service",
            "sslcert",
            "sslkey",
            "sslmode",
            "sslrootcert",
            "target_session_attrs",
        ),
        *("username", "url"),
    }
)
_port = integer(1, 65535)


class DatabaseUrl(msgspec.Struct, frozen=True):
    """A database URL taken apart: ``fields`` of the database settings, by name, and query parameters nobody reads."""

    fields: dict[str, object]
    unknown: tuple[str, ...] = ()


class NatsAddress(msgspec.Struct, frozen=True):
    """NATS servers without credentials, and the credentials that stood in their URLs."""

    servers: tuple[str, ...]
    user: str | None = None
    password: Secret[str] | None = None
    token: Secret[str] | None = None


def _decoded(part: str, what: str) -> str:
    try:
        return unquote(part, errors="strict")
    except UnicodeDecodeError:
        raise InvalidValueError(f"the {what} is not percent-encoded UTF-8") from None


def database_url(value: str) -> DatabaseUrl:
    """``postgres://user:password@host:port/database?sslmode=...``; every part is optional and percent-decoded.

    The query parameters of libpq that concern a connection are understood; others are reported back in ``unknown``.
    Messages never quote the URL, because it holds the password.
    """
    scheme, separator, _ = value.partition("://")
    if not separator or scheme.lower() not in ("postgres", "postgresql"):
        raise InvalidValueError("the URL must start with postgres:// or postgresql://")
    try:
        parts = urlsplit(value)
        network, path, query = parts.netloc, parts.path, parts.query
    except ValueError:
        raise InvalidValueError("the URL cannot be taken apart") from None
    if parts.fragment:
        raise InvalidValueError("a # in user name or password must be written %23")
    if "@" in path or "@" in query:
        raise InvalidValueError("a / in user name or password must be written %2F, a ? %3F, and any @ elsewhere %40")
    credentials, _, address = network.rpartition("@")
    user, has_password, password = credentials.partition(":")
    fields: dict[str, object] = {}
    if user:
        fields["user"] = _decoded(user, "user name")
    if has_password:
        fields["password"] = Secret(_decoded(password, "password"))
    host_name, port = _host_and_port(address)
    if host_name:
        fields["host"] = _host_name(_decoded(host_name, "host"))
    if port is not None:
        fields["port"] = port
    if len(path) > 1:
        fields["database"] = _decoded(path[1:], "database name")
    unknown: list[str] = []
    for name, text in parse_qsl(query, keep_blank_values=True):
        field = _URL_OPTIONS.get(name.lower())
        if field is None:
            unknown.append(name)
        else:
            fields[field] = _url_option(name, field, text)
    return DatabaseUrl(fields, tuple(unknown))


def _url_option(name: str, field: str, text: str) -> object:
    match field:
        case "ssl_mode":
            return ssl_mode(text)
        case "host":
            return _host_name(text)
        case "port":
            return _port(text)
        case "password":
            return Secret(text)
        case "statement_cache_capacity":
            return integer(0, 100_000)(text)
        case _:
            if not text:
                raise InvalidValueError(f"the parameter {name} is empty")
            return text


def ssl_mode(value: str) -> str:
    """A TLS mode of libpq."""
    lowered = value.lower()
    if lowered not in SSL_MODES:
        raise InvalidValueError(f"{shown(value)} is not a TLS mode ({', '.join(SSL_MODES)})")
    return lowered


def _host_name(text: str) -> str:
    # Not quoted in messages: a password with an unescaped character can end up where the host is expected.
    try:
        return database_host(text)
    except InvalidValueError:
        raise InvalidValueError("the host is neither a host name nor an IP address") from None


def _host_and_port(address: str) -> tuple[str, int | None]:
    if "," in address:
        raise InvalidValueError("only one host is supported")
    if address.startswith("["):
        host_name, closed, rest = address[1:].partition("]")
        if not closed or (rest and not rest.startswith(":")):
            raise InvalidValueError("an IPv6 address must stand in brackets")
        port = rest[1:]
    else:
        host_name, _, port = address.partition(":")
    try:
        return host_name, _port(port) if port else None
    except InvalidValueError:
        raise InvalidValueError("the port must be a whole number from 1 to 65535") from None


def shard_dsn(value: str) -> dict[str, object]:
    """One DSN of ``NOETL_CLUSTER_DSN`` or a segment of ``NOETL_SHARDS``: fields of the database settings by name.

    Grammar and messages of spec 50, section 11.1: ``key=value`` pairs separated by ``;``, values verbatim.
    """
    fields: dict[str, object] = {"port": 5432, "password": Secret(""), "database": "noetl"}
    for pair in value.split(";"):
        if not pair.strip():
            continue
        key, equals, text = pair.partition("=")
        key = key.strip()
        if not equals:
            # The pair may be half of a password, so it is named by its length only.
            raise InvalidValueError(f"malformed key=value pair: {len(pair)} characters without '='")
        match key:
            case "host":
                fields["host"] = _host_name(text) if text else ""
            case "user":
                fields["user"] = text
            case "port":
                try:
                    fields["port"] = _port(text)
                except InvalidValueError:
                    raise InvalidValueError(f"invalid port: {shown(text)[1:-1]}") from None
            case "password":
                fields["password"] = Secret(text)
            case "database" | "dbname":
                fields["database"] = text
            case _:
                # Any other word may be the rest of a password with a ';' in it.
                raise InvalidValueError(f"unknown key: {key if key in _LIBPQ_KEYS else f'{len(key)} characters'}")
    for required in ("host", "user"):
        if not fields.get(required):
            raise InvalidValueError(f"missing required key: {required}")
    return fields


def shard_list(value: str) -> tuple[dict[str, object], ...]:
    """All segments of ``NOETL_SHARDS``; the position is the shard index; empty segments are skipped."""
    segments = [segment.strip() for segment in value.split(",") if segment.strip()]
    shards: list[dict[str, object]] = []
    for index, segment in enumerate(segments):
        try:
            shards.append(shard_dsn(segment))
        except InvalidValueError as error:
            raise InvalidValueError(f"shard {index}: {error}") from None
    return tuple(shards)


def nats_address(value: str) -> NatsAddress:
    """A comma list of NATS URLs; credentials are percent-decoded and taken out (spec 60, section 2.4).

    The scheme defaults to ``nats``, the port to 4222. Credentials in several URLs must be the same, because a client
    logs in with one. A user without a password is a token, as in all NATS clients.
    """
    servers: list[str] = []
    logins: list[tuple[str, bool, str]] = []
    for segment in (part.strip() for part in value.split(",")):
        if not segment:
            continue
        scheme, separator, rest = segment.partition("://")
        if not separator:
            scheme, rest = "nats", segment
        scheme = scheme.lower()
        if scheme not in NATS_SCHEMES:
            raise InvalidValueError(
                f"unknown scheme; a NATS URL starts with {', '.join(f'{name}://' for name in NATS_SCHEMES)}"
            )
        credentials, has_login, address = rest.rpartition("@")
        user, has_password, password = credentials.partition(":")
        if has_login and user:
            logins.append((_decoded(user, "user name"), bool(has_password), _decoded(password, "password")))
        servers.append(f"{scheme}://{_nats_server(address)}")
    if not servers:
        raise InvalidValueError("no address in the list")
    if len(set(logins)) > 1:
        raise InvalidValueError("the URLs carry different credentials; use one login for all servers")
    if not logins:
        return NatsAddress(tuple(servers))
    user, has_password, password = logins[0]
    if has_password:
        return NatsAddress(tuple(servers), user=user, password=Secret(password))
    return NatsAddress(tuple(servers), token=Secret(user))


def _nats_server(address: str) -> str:
    host_name, port = _host_and_port(address.rstrip("/"))
    if not host_name:
        raise InvalidValueError("an address has no host")
    name = _host_name(host_name)
    return f"{f'[{name}]' if ':' in name else name}:{port or NATS_PORT}"
