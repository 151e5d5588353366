"""Plain-Python twins of the extensions: the readable statement of what each must compute."""

from __future__ import annotations

import itertools
import json
import re
import struct
from typing import Any

import orjson
import xxhash

REDACTED = "[REDACTED]"
WORDS = (
    "password passwd pwd secret token bearer api_key apikey auth credential private_key privatekey connection_string "
    "connectionstring gcp_key azure_key ssh_key sshkey passphrase pem cert encryption_key decrypt_key master_key"
).split()


class Snowflake:
    """Ids by the rules of spec 60, section 8.2, for a clock that is handed in."""

    def __init__(self, machine: int, stripe: int = 0, stripes: int = 1) -> None:
        self.machine = machine
        self.per_millisecond = 4096 // stripes
        self.first_sequence = stripe * self.per_millisecond
        self.last = -1
        self.sequence = 0

    def mint_at(self, now: int) -> int:
        """The next id at ``now`` milliseconds since the epoch of the ids."""
        if now > self.last:
            self.last, self.sequence = now, 0
        elif self.sequence + 1 < self.per_millisecond:
            self.sequence += 1
        else:
            self.last, self.sequence = self.last + 1, 0
        return self.last << 22 | self.machine << 12 | (self.first_sequence + self.sequence)


def shard_for(execution_id: int, count: int) -> int:
    """Spec 60, section 9."""
    return 0 if count <= 1 else xxhash.xxh64_intdigest(struct.pack("<q", execution_id), 0) % count


def depth_of(text: bytes) -> int:
    """Spec 10, section 2.4, by taking out the strings and counting brackets."""
    brackets = re.sub(rb'"(?:[^"\\]++|\\.)*+"', b"", text, flags=re.DOTALL)
    depths = itertools.accumulate((byte in b"{[") - (byte in b"}]") for byte in brackets)
    return max(depths, default=0)


def machine_id_from_name(text: str) -> int:
    """Spec 60, section 8.3."""
    state = 0xCBF29CE484222325
    for byte in text.encode():
        state = (state ^ byte) * 0x100000001B3 % 2**64
    return state & 1023


def sanitize(raw: bytes, extra_keys: tuple[str, ...] = ()) -> bytes:
    """Spec 20, section 9, by decoding, walking and encoding."""
    words = [*WORDS, *(key.lower().replace("-", "_") for key in extra_keys)]
    return json.dumps(_walk(json.loads(raw), 0, "", words), ensure_ascii=False).encode("utf-8", "surrogatepass")


def sanitize_with_orjson(raw: bytes) -> bytes:
    """The fastest form without an extension, for the benchmark."""
    return orjson.dumps(_walk(orjson.loads(raw), 0, "", WORDS))


def _walk(value: Any, depth: int, name: str, words: list[str]) -> Any:
    if isinstance(value, str):
        value = value.replace("\0", "")
        return REDACTED if depth < 20 and _is_secret(value, name) else value
    if isinstance(value, list):
        return [_walk(item, depth + 1, "", words) for item in value]
    if isinstance(value, dict):
        walked = {}
        for key, item in value.items():
            clean = key.replace("\0", "")
            folded = clean.lower().replace("-", "_")
            sensitive = depth < 20 and any(word in folded for word in words)
            walked[clean] = REDACTED if sensitive else _walk(item, depth + 1, clean, words)
        return walked
    return value


def _is_secret(text: str, name: str) -> bool:
    size = len(text.encode("utf-8", "surrogatepass"))
    if text.lower().startswith(("bearer ", "basic ")):
        return True
    if text.startswith("eyJ") and text.count(".") == 2 and size > 50:
        return True
    if "-----BEGIN" in text and "PRIVATE KEY-----" in text:
        return True
    if name == "sha256" and len(text) == 64 and set(text) <= set("0123456789abcdef"):
        return False
    return size >= 40 and all(character.isalnum() or character in "+/=" for character in text)


def result_envelope(status: str, context: bytes | None) -> bytes:
    """Spec 20, section 6.3."""
    return orjson.dumps(
        {"status": status} if context is None else {"status": status, "context": orjson.Fragment(context)}
    )


def event_meta(meta: bytes | None, worker_id: str | None, actionable: bool, informative: bool) -> bytes:
    """Spec 20, section 6.4."""
    value = None if meta is None else orjson.loads(meta)
    members = {} if value is None else value if isinstance(value, dict) else {"value": value}
    members |= {"actionable": actionable, "informative": informative}
    return orjson.dumps(members if worker_id is None else members | {"worker_id": worker_id})


def event_response(event_id: int) -> bytes:
    """Spec 20, section 6.5."""
    return orjson.dumps({"status": "ok", "event_id": event_id, "commands_generated": 0})


def claim_response(
    event_id: int, execution_id: int, step: str, tool_kind: str, context: bytes | None, meta: bytes | None
) -> bytes:
    """Spec 20, section 5.2."""
    return orjson.dumps(
        {
            "status": "ok",
            "event_id": event_id,
            "execution_id": execution_id,
            "node_id": step,
            "node_name": step,
            "action": tool_kind,
            "context": None if context is None else orjson.Fragment(context),
            "meta": None if meta is None else orjson.Fragment(meta),
        }
    )


def notification(execution_id: int, event_id: int, command_id: str, step: str, server_url: str) -> bytes:
    """Spec 20, section 4.2."""
    return orjson.dumps(
        {
            "command_id": command_id,
            "event_id": event_id,
            "execution_id": execution_id,
            "server_url": server_url,
            "step": step,
        }
    )
