"""A server under watch: sends it requests and keeps all that comes out of it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

import asyncpg

from tests.integration.http.rawhttp import JSON, RawClient
from tests.integration.leaks.marks import Family

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from nats.aio.msg import Msg

    from noetl.dev.server_process import ServerProcess
    from tests.integration.http.rawhttp import Reply

LOG: Final = "log"
METRICS: Final = "metrics"
TABLES: Final = "tables"
MESSAGES: Final = "messages"
ANSWERS: Final = "answers"
COMMAND_LINE: Final = "command line"


class Families:
    """The kinds of secrets, and where each may be seen.

    What a client gives as name, playbook, workload or result is data: it is stored and shown as it is. It is still
    nobody's business in logs, metrics and messages.
    """

    def __init__(self) -> None:
        self.configured = Family("configured")
        """Keys, tokens and passwords in the environment."""
        self.credential = Family("credential")
        """Values of credentials and keychain entries; only `Site.reveal` may see them."""
        self.header = Family("header")
        """Authorization, cookies and the like."""
        self.redacted = Family("redacted")
        """Results and metadata of events under a name of the sanitiser's list, or looking like a secret."""
        self.query = Family("query")
        """Query parameters: an answer may name what is wrong with them."""
        self.payload = Family("payload")
        """Any other content of a body."""

    def forbidden_in(self, place: str) -> Sequence[Family]:
        """The families that must not be seen in ``place``."""
        strict = (self.configured, self.credential, self.header, self.redacted)
        if place in {TABLES, ANSWERS}:
            return strict
        return (*strict, self.query, self.payload)


@dataclass
class Site:
    """The server, the marks, and what came out so far, by place."""

    server: ServerProcess
    database_url: str
    token: str
    families: Families = field(default_factory=Families)
    outputs: dict[str, list[tuple[str, bytes]]] = field(default_factory=dict[str, list[tuple[str, bytes]]])
    statuses: dict[str, set[int]] = field(default_factory=dict[str, set[int]])
    kept: dict[str, Any] = field(default_factory=dict[str, Any])
    """What a scenario needs again when nothing can be written any more."""
    troubled: bool = False
    """Whether something that the server needs is broken on purpose."""
    _client: RawClient | None = None

    def saw(self, place: str, source: str, output: bytes) -> None:
        """Keep something that came out of ``source``."""
        self.outputs.setdefault(place, []).append((source, output))

    def hear(self, message: Msg) -> None:
        """Keep a message."""
        headers = json.dumps(message.headers or {})
        self.saw(MESSAGES, message.subject, f"{message.subject} {message.reply} {headers} ".encode() + message.data)

    def leaks(self) -> list[str]:
        """Every mark at a place where it must not be."""
        return sorted(
            {
                f"{place}, {source}: {hit}"
                for place, outputs in self.outputs.items()
                for family in self.families.forbidden_in(place)
                for source, output in outputs
                for hit in family.found_in(output)
            }
        )

    async def send(
        self,
        method: str,
        target: str,
        body: Any = None,
        headers: Iterable[tuple[str, str]] = (),
        *,
        internal: bool = False,
        secret: bool = False,
        ok: bool = False,
    ) -> Reply:
        """One request; its answer is an output unless it is the one that may hold a secret.

        Args:
            body: bytes or text as they are, anything else as JSON.
            internal: send the token of the internal API.
            secret: the answer may hold the value that was asked for.
            ok: must succeed, unless there is trouble.
        """
        if self._client is None:
            self._client = RawClient("127.0.0.1", self.server.port)
        sent = [*headers]
        if internal:
            sent.append(("authorization", f"Bearer {self.token}"))
        data = body
        if body is not None:
            if not any(name == "content-type" for name, _ in sent):
                sent.append(JSON)
            data = body if isinstance(body, bytes | str) else json.dumps(body)
        reply = await self._client.request(method, target, data, sent)
        self.statuses.setdefault(f"{method} {target.partition('?')[0]}", set()).add(reply.status)
        assert not ok or self.troubled or reply.status == 200, f"{method} {target} {reply.status} {reply.text}"
        if not (secret and reply.status == 200):
            shown = json.dumps([reply.status, reply.headers]).encode() + reply.body
            self.saw(ANSWERS, f"{method} {target[:60]} {reply.status}", shown)
        return reply

    async def reveal(self, target: str) -> Reply:
        """Ask for a secret as its rightful reader, who finds it (so that the search is known to work)."""
        reply = await self.send("GET", target, secret=True, ok=True)
        assert self.troubled or self.families.credential.found_in(reply.body), reply.text
        return reply

    async def execute(self, *statements: str) -> None:
        """Change the database behind the server's back."""
        connection = cast("Any", await asyncpg.connect(self.database_url))
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    async def fetch(self, query: str, *arguments: object) -> list[Any]:
        """The first column of a query's rows."""
        connection = cast("Any", await asyncpg.connect(self.database_url))
        try:
            return [row[0] for row in await connection.fetch(query, *arguments)]
        finally:
            await connection.close()

    async def tables(self) -> Mapping[str, bytes]:
        """Every table and view of every schema of ours: all rows, all columns as text."""
        connection = cast("Any", await asyncpg.connect(self.database_url))
        try:
            names = await connection.fetch(
                "SELECT format('%I.%I', table_schema, table_name) AS name FROM information_schema.tables"
                " WHERE table_schema NOT IN ('pg_catalog', 'information_schema')"
            )
            return {
                row["name"]: b"\n".join(
                    line["text"].encode()
                    for line in await connection.fetch(f"SELECT t::text AS text FROM {row['name']} AS t")
                )
                for row in names
            }
        finally:
            await connection.close()

    async def look(self) -> None:
        """Keep what the tables, the metrics, the log and the process list show now."""
        for name, rows in (await self.tables()).items():
            self.saw(TABLES, name, rows)
        self.saw(METRICS, "/metrics", (await self.send("GET", "/metrics")).body)
        self.saw(LOG, "log", self.server.log_path.read_bytes())
        with open(f"/proc/{self.server.pid}/cmdline", "rb") as arguments:  # noqa: ASYNC230 (a file in memory)
            self.saw(COMMAND_LINE, "arguments of the process", arguments.read())
