"""Hostile requests from a seed: broken HTTP, bombs, numbers and texts of all kinds, tricks with paths, templates."""

from __future__ import annotations

import itertools
import string
from typing import TYPE_CHECKING, Any, Final

import orjson

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

HUGE: Final = "9" * 5_000
TEXTS: Final = (
    "",
    " ",
    "\x00",
    "a\x00b",
    "\ufeff",
    "é" * 400,
    "\U0001f4a9",
    "../../etc/passwd",
    "..\\..\\x",
    "a" * 5_000,
    "%s%n",
    "null",
    "{{ 7 * 7 }}",
    "{{ '' }}",
    "'; DROP TABLE noetl.event; --",
    '"',
    "\\",
    "\r\nX-Injected: 1",
    "1e400",
    "-1",
    "NaN",
    "true",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775809",
    "0x10",
    "١٢٣",
    "1_000",
    "+5",
    "2026-13-45T99:99:99Z",
    "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59.999999999+23:59",
    "application/json",
    "playbook",
    "COMPLETED",
)
RAW_VALUES: Final = (
    b"null",
    b"true",
    b"[]",
    b"{}",
    b"0",
    b"-1",
    b"1.5",
    b"1e400",
    b"-0",
    b"9223372036854775808",
    b'"\\ud800"',
    b'"\\udc00\\ud800"',
    b'"\\u0000"',
    b'"\xff\xfe"',
    b'"\xc0\x80"',
    b"NaN",
    b"Infinity",
    b"01",
    b"'a'",
    b"[1,]",
    b'{"a":1,"a":2}',
    b'{"\\u0000":1}',
    HUGE.encode(),
    b"[" * 200 + b"]" * 200,
    b"[" * 100_000,
    b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
    b'"' + b"x" * 200_000 + b'"',
    b"[" + b"0," * 50_000 + b"0]",
    b'"' + b"\\u0000" * 5_000 + b'"',
    b"1" + b"0" * 400,
    b"0." + b"1" * 5_000,
    b"1e-400",
)
MEMBERS: Final = (
    "execution_id event_id event_type name step status payload context meta worker_id events content path version"
    " catalog_id resource_type kind component_type type data tags scope cache_type ttl_seconds expires_at query"
    " parameters db_schema variables reason cascade error limit offset runtime labels capacity registration"
    " idempotency_key parent_execution_id created_at result_kind result_uri event_ids actionable informative ids rows"
    " job_name state exit_code description schema"
).split()
YAML_BOMBS: Final = (
    "a: &a [x,x,x]\n" + "".join(f"{b}: &{b} [{','.join(['*' + a] * 9)}]\n" for a, b in itertools.pairwise("abcdefghi")),
    "a: &a\n  b: *a\n",
    "[" * 20_000,
    "{" * 20_000,
    "- " * 20_000,
    "? " * 5_000,
    "a: !!python/object/apply:os.system ['true']",
    "%YAML 9.9\n---\n- &x [*x]",
    "a: |" + "\n  x" * 20_000,
    "\t\t: :::",
    "--- a\n--- b\n" * 1_000,
    "k: " + HUGE,
    "a: \x01",
    "? [[[[{}]]]]\n: 1",
)
TEMPLATES: Final = (
    "{{ range(10**9) | list }}",
    "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}",
    "{{ 'x' * 10**9 }}",
    "{{ 10 ** 10 ** 10 }}",
    "{{ ''.__class__.__mro__ }}",
    "{{ self }}",
    "{{ x.x.x.x }}",
    "{{",
    "{% if %}",
    "{{ " + "(" * 5_000 + " }}",
    "{{ [" * 500 + "]" * 500 + " }}",
    "{% set a = [a, a] %}{{ a }}",
    "{{ 'a' | replace('', 'b' * 9999) }}",
    "{{ '%s' % ('x' * 999999) }}",
    "{{ 1 // 0 }}",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "{{ '\\ud800' }}",
    "{{ {}.a.b }}",
    "{{ range(3) | map('upper') | join }}",
    "{% include '/etc/passwd' %}",
    "{% raw %}",
    "{{ 1 if }}",
    "{{ -9223372036854775808 // -1 }}",
    "{{ 'a' | center(99999999) }}",
    "{{ 'x' | indent(9999999) }}",
    "{{ range(0, 10, 0) }}",
    "{{ '" + "a" * 100_000 + "' * 1000 }}",
)
VALID: Final[dict[str, dict[str, Any]]] = {
    "/api/events": {"execution_id": 1, "step": "a", "event_type": "step.enter", "payload": {"a": 1}, "meta": {}},
    "/api/events/batch": {"execution_id": 1, "events": [{"step": "a", "event_type": "step.enter"}], "worker_id": "w"},
    "/api/execute": {"path": "hostile/valid", "payload": {"a": 1}},
    "/api/commands/{event_id}/claim": {"worker_id": "w"},
    "/api/catalog/register": {"content": "kind: Playbook", "resource_type": "Playbook"},
    "/api/catalog/list": {"resource_type": "Playbook", "limit": 1},
    "/api/catalog/resource": {"path": "hostile/valid", "version": 1},
    "/api/credentials": {"name": "c", "type": "generic", "data": {"a": "b"}},
    "/api/postgres/execute": {"query": "SELECT 1", "parameters": [], "db_schema": "noetl"},
    "/api/vars/{execution_id}": {"variables": {"a": 1}},
    "/api/worker/pool/register": {"name": "w", "component_type": "worker_pool", "runtime": {}, "capacity": 1},
    "/api/worker/pool/heartbeat": {"name": "w"},
    "/api/executions/{execution_id}/finalize": {"status": "FAILED", "error": "x"},
    "/api/internal/outbox/claim": {"limit": 1, "worker_id": "p"},
    "/api/internal/events/project": {"events": []},
    "/api/internal/container-callback/{execution_id}/{step}": {"job_name": "j", "state": "succeeded"},
}
POST: Final = b"POST /api/events HTTP/1.1\r\n"
HEALTH: Final = b"GET /api/health HTTP/1.1\r\n"
HEADS: Final[tuple[bytes, ...]] = (
    b"",
    b"\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET /\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"get / HTTP/1.1\r\n\r\n",
    b"GET  / HTTP/1.1\r\n\r\n",
    b"BREW /coffee HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost x\r\n\r\n",
    b"GET / HTTP/1.1\r\nA: \x00\r\n\r\n",
    b"GET / HTTP/1.1\r\n: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
    b"GET / HTTP/1.1\nA: b\n\n",
    b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nA: " + b"b" * 100_000 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 20_000 + b"\r\n",
    b"GET http://x/api/health HTTP/1.1\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\n\r\n",
    b"CONNECT x:1 HTTP/1.1\r\n\r\n",
    POST + b"Content-Length: -1\r\n\r\n",
    POST + b"Content-Length: 1e3\r\n\r\n",
    POST + b"Content-Length: 99999999999999999999\r\n\r\n",
    POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n{}{}{}",
    POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: xchunked\r\n\r\n",
    POST + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n",
    POST + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
    POST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\nx\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"x" * 70_000,
    POST + b"Content-Type: application/json\r\nContent-Length: 50\r\n\r\n{",
    HEALTH + b"Host: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    HEALTH + b"Host: x\r\nExpect: 100-continue\r\n\r\n",
    (HEALTH + b"Host: x\r\n\r\n") * 200,
    POST + b"Host: x\r\nExpect: 100-continue\r\nContent-Length: 3000000\r\n\r\n",
)
"""Requests that are none, or two at once; the connection is closed after each."""


class Hostile:
    """Makes requests to the routes of an application: (method, template) pairs."""

    def __init__(self, routes: Sequence[tuple[str, str]], token: str, chance: random.Random) -> None:
        self._routes = routes
        self._token = token
        self._chance = chance

    def request(self) -> tuple[bytes, bool]:
        """The bytes of the next request, and whether that is all of it, with the wish to close the connection."""
        kind = self._chance.random()
        if kind < 0.6:
            return self._to_route(), True
        if kind < 0.75:
            return self._playbook(), True
        if kind < 0.9:
            return self._chance.choice(HEADS), False
        return self._broken_copy(), False

    def _to_route(self) -> bytes:
        method, template = self._chance.choice(self._routes)
        path = self._path(template)
        body = None if method == "GET" and self._chance.random() < 0.9 else self._body(template)
        return self._encoded(method, path, body)

    def _broken_copy(self) -> bytes:
        """A request that is cut, or in which some bytes are others."""
        data = bytearray(self._to_route()[:4_000])
        if self._chance.random() < 0.3:
            return bytes(data[: self._chance.randrange(len(data))])
        for _ in range(self._chance.randrange(1, 6)):
            data[self._chance.randrange(len(data))] = self._chance.randrange(256)
        return bytes(data)

    def _playbook(self) -> bytes:
        """A registration: a bomb, or a workflow with a hostile template that is rendered at once or later."""
        if self._chance.random() < 0.3:
            text = self._chance.choice(YAML_BOMBS)
        else:
            template = orjson.dumps(self._chance.choice(TEMPLATES)).decode()
            place = self._chance.choice(("input: {v: %s}", "when: %s", "loop: {in: %s, iterator: i}", "args: {v: %s}"))
            step = place % template
            tool = "tool: {kind: noop, " + step + "}" if step.startswith("input") else f"tool: {{kind: noop}}, {step}"
            text = (
                "apiVersion: noetl.io/v2\nkind: Playbook\nmetadata: {name: h, path: hostile/h}\nworkflow:\n"
                f"  - {{step: start, {tool}, next: end}}\n  - {{step: end, tool: {{kind: noop}}}}\n"
            )
        register = self._encoded("POST", "/api/catalog/register", orjson.dumps({"content": _sound(text)}), last=False)
        return register + self._encoded("POST", "/api/execute", b'{"path":"hostile/h"}')

    def _path(self, template: str) -> str:
        parts: list[str] = []
        for part in template.split("/"):
            if part.startswith("{"):
                part = _quoted(self._chance.choice(TEXTS)[:3_000]) if self._chance.random() < 0.7 else "1"
            parts.append(part)
        path = "/".join(parts)
        trick = self._chance.random()
        if trick < 0.05:
            path += self._chance.choice(("/", "//", "/..", "/%2e%2e/", "/%00", "/%ff", "%", "%zz", ";x=1", "/./"))
        elif trick < 0.08:
            path = "/" + path
        elif trick < 0.1:
            path = path.replace("/", "%2F")
        if self._chance.random() < 0.3:
            pairs = (
                f"{self._chance.choice(MEMBERS)}={_quoted(self._chance.choice(TEXTS)[:2_000])}"
                for _ in range(self._chance.randrange(1, 5))
            )
            path += "?" + self._chance.choice(("&", "&&", ";")).join(pairs)
        return path

    def _body(self, template: str) -> bytes:
        kind = self._chance.random()
        if kind < 0.1:
            return self._chance.choice(RAW_VALUES)
        if kind < 0.15:
            return self._chance.randbytes(self._chance.randrange(2_000))
        valid = VALID.get(template, {})
        members = {name: orjson.dumps(value) for name, value in valid.items()}
        for _ in range(self._chance.randrange(1, 4)):
            names = [*valid] if valid and self._chance.random() < 0.7 else MEMBERS
            members[self._chance.choice(names)] = self._value()
        return b"{" + b",".join(orjson.dumps(name) + b":" + value for name, value in members.items()) + b"}"

    def _value(self) -> bytes:
        if self._chance.random() < 0.5:
            return self._chance.choice(RAW_VALUES)
        return orjson.dumps(self._chance.choice((*TEXTS, *TEMPLATES)).replace("\ud800", ""))

    def _encoded(self, method: str, path: str, body: bytes | None, *, last: bool = True) -> bytes:
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        if last:
            head += "Connection: close\r\n"
        if self._chance.random() < 0.7:
            head += f"Authorization: Bearer {self._token}\r\n"
        if body is None:
            return f"{head}\r\n".encode()
        types = ("application/json",) * 8 + (
            "text/plain",
            "application/yaml",
            "application/json; charset=utf-16",
            "x" * 500,
        )
        head += f"Content-Type: {self._chance.choice(types)}\r\n"
        if self._chance.random() < 0.1:
            return f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


_PLAIN: Final = frozenset(string.ascii_letters + string.digits + "-._~/:{}'()*")


def _quoted(text: str) -> str:
    """Percent-encoded, but for characters that somebody may forget about."""
    return "".join(char if char in _PLAIN else "".join(f"%{byte:02X}" for byte in char.encode()) for char in text)


def _sound(text: str) -> str:
    return text.encode(errors="replace").decode()
