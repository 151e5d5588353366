"""Texts of environment variables into values: numbers, booleans, names, keys."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import msgspec

from noetl.config.problems import InvalidValueError
from noetl.config.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable

ENCRYPTION_KEY_BYTES: Final = 32
BYTES_PER_UNIT: Final = {"": 1, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}

_TRUE: Final = frozenset({"true", "1", "yes", "on"})
_FALSE: Final = frozenset({"false", "0", "no", "off"})
_INTEGER: Final = re.compile(r"[+-]?[0-9]+", re.ASCII)
_NUMBER: Final = re.compile(r"\+?[0-9]+(\.[0-9]+)?", re.ASCII)
_SIZE: Final = re.compile(r"\+?([0-9]+)\s*(KIB|MIB|GIB|)", re.ASCII | re.IGNORECASE)
_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_$]{0,62}", re.ASCII)
_SUBJECT: Final = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", re.ASCII)
_STREAM: Final = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_HOST: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,253}[A-Za-z0-9_])?", re.ASCII)
_SHOWN_CHARACTERS: Final = 80


def shown(text: str) -> str:
    """A value as messages quote it: one line, printable, not longer than a line of a terminal."""
    quoted = ascii(text[:_SHOWN_CHARACTERS])[1:-1]
    return f'"{quoted}{"..." if len(text) > _SHOWN_CHARACTERS else ""}"'


def text(value: str) -> str:
    """Any text."""
    return value


def secret_text(value: str) -> Secret[str]:
    """Any text, wrapped."""
    return Secret(value)


def boolean(value: str) -> bool:
    """``true/false/1/0/yes/no/on/off`` in any case (decision 18)."""
    lowered = value.lower()
    if lowered in _TRUE:
        return True
    if lowered in _FALSE:
        return False
    raise InvalidValueError(f"{shown(value)} is not a boolean (true, false, 1, 0, yes, no, on, off)")


def integer(minimum: int, maximum: int, unit: str = "") -> Callable[[str], int]:
    """A parser of whole numbers from ``minimum`` to ``maximum``; ``unit`` names what is counted in messages."""
    counted = f" of {unit}" if unit else ""

    def parse(value: str) -> int:
        # Twenty digits hold every 64-bit number; more would only cost time.
        if len(value) > 20 or _INTEGER.fullmatch(value) is None:
            raise InvalidValueError(f"{shown(value)} is not a whole number{counted} from {minimum} to {maximum}")
        number = int(value)
        if not minimum <= number <= maximum:
            raise InvalidValueError(
                f"{number} is out of range; it must be a whole number{counted} from {minimum} to {maximum}"
            )
        return number

    return parse


def seconds(minimum: float, maximum: float = 31_536_000) -> Callable[[str], float]:
    """A parser of durations in seconds, fractions allowed."""

    def parse(value: str) -> float:
        if len(value) > 20 or _NUMBER.fullmatch(value) is None:
            raise InvalidValueError(f"{shown(value)} is not a number of seconds from {minimum:g} to {maximum:g}")
        number = float(value)
        if not minimum <= number <= maximum:
            raise InvalidValueError(f"{number:g} is out of range; it must be seconds from {minimum:g} to {maximum:g}")
        return number

    return parse


def size(minimum: int, maximum: int) -> Callable[[str], int]:
    """A parser of byte counts, plain or with the unit KiB, MiB, GiB."""

    def parse(value: str) -> int:
        match = _SIZE.fullmatch(value) if len(value) <= 24 else None
        if match is None:
            raise InvalidValueError(f"{shown(value)} is not a number of bytes (plain, or with KiB, MiB, GiB)")
        number = int(match[1]) * BYTES_PER_UNIT[match[2].upper()]
        if not minimum <= number <= maximum:
            raise InvalidValueError(f"{number} is out of range; it must be bytes from {minimum} to {maximum}")
        return number

    return parse


def choice(*accepted: str) -> Callable[[str], str]:
    """A parser of one of the words ``accepted``, in any case."""

    def parse(value: str) -> str:
        lowered = value.lower()
        if lowered not in accepted:
            raise InvalidValueError(f"{shown(value)} is none of {', '.join(accepted)}")
        return lowered

    return parse


def kms_provider(value: str) -> str:
    """``local`` or ``gcp-kms``, with the reference's message otherwise (spec 60, section 2.1)."""
    if value not in ("local", "gcp-kms"):
        raise InvalidValueError(f"unknown NOETL_KMS_PROVIDER '{shown(value)[1:-1]}' (expected 'local' or 'gcp-kms')")
    return value


def machine_id(value: str) -> int:
    """A 10-bit machine id; the message keeps the phrase that operators search for (spec 60, section 4)."""
    try:
        return integer(0, 1023)(value)
    except InvalidValueError:
        raise InvalidValueError(f"server_machine_id must fit in 10 bits (0..1023); got {shown(value)}") from None


def shard_count(value: str) -> int:
    """A number of shards; the message keeps the phrase that operators search for (spec 60, section 4)."""
    count = integer(0, 1024)(value)
    if count < 1:
        raise InvalidValueError(f"NOETL_SHARD_COUNT must be >= 1; got {count}")
    return count


def host(value: str) -> str:
    """A host name or an address; brackets around an IPv6 address are taken off."""
    bare = value[1:-1] if value.startswith("[") and value.endswith("]") else value
    if _HOST.fullmatch(bare) is None and not _is_ipv6(bare):
        raise InvalidValueError(f"{shown(value)} is neither a host name nor an IP address")
    return bare


def _is_ipv6(value: str) -> bool:
    try:
        ipaddress.IPv6Address(value)
    except ValueError:
        return False
    return True


def database_host(value: str) -> str:
    """A host, or a directory of a Unix socket (starting with ``/``)."""
    return value if value.startswith("/") else host(value)


def identifier(value: str) -> str:
    """An SQL identifier that can stand in a statement, quoted (spec 60, section 2.1, NOETL_SCHEMA)."""
    if _IDENTIFIER.fullmatch(value) is None:
        raise InvalidValueError(
            f"{shown(value)} is not an identifier (a letter or _, then letters, digits, _ or $; at most 63)"
        )
    return value


def subject(value: str) -> str:
    """A NATS subject without wildcards."""
    if _SUBJECT.fullmatch(value) is None:
        raise InvalidValueError(f"{shown(value)} is not a NATS subject without wildcards")
    return value


def stream_name(value: str) -> str:
    """A JetStream stream name."""
    if _STREAM.fullmatch(value) is None:
        raise InvalidValueError(f"{shown(value)} is not a stream name (letters, digits, _ and -)")
    return value


def http_url(value: str) -> str:
    """An ``http`` or ``https`` address, kept as it is."""
    try:
        parts = urlsplit(value)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        valid = False
    if not valid or any(character.isspace() for character in value):
        raise InvalidValueError(f"{shown(value)} is not an http:// or https:// address")
    return value


def encryption_key(value: str) -> Secret[bytes]:
    """32 bytes in standard base64; messages as the reference's (spec 60, section 2.1)."""
    try:
        key = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidValueError(f"Encryption error: Invalid base64 key: {error}") from None
    if len(key) != ENCRYPTION_KEY_BYTES:
        raise InvalidValueError(f"Encryption error: Invalid key length: expected 32 bytes, got {len(key)}")
    return Secret(key)


def encryption_keys(value: str) -> tuple[Secret[bytes], ...]:
    """A comma list of such keys; empty places are skipped."""
    return tuple(encryption_key(part.strip()) for part in value.split(",") if part.strip())


def region_registry(value: str) -> dict[str, str]:
    """A JSON object of region -> address of the broker there; empty addresses are dropped (spec 60, section 2.5).

    Requests carry the token of the internal routes, so plain http is for this machine only.
    """
    try:
        registry = msgspec.json.decode(value, type=dict[str, str])
    except msgspec.DecodeError as error:
        raise InvalidValueError(f"not a JSON object of region names to addresses: {error}") from None
    return {region: _broker(address.strip()) for region, address in registry.items() if address.strip()}


def _broker(address: str) -> str:
    parts = urlsplit(http_url(address))
    if parts.scheme == "http" and not _is_own_machine(parts.hostname or ""):
        raise InvalidValueError(f"{shown(address)} would send NOETL_INTERNAL_API_TOKEN in clear: use https://")
    return address


def _is_own_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
