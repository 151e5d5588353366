"""Variables that fill several fields at once: addresses with credentials, and names that ids derive from."""

from __future__ import annotations

import msgspec

from noetl.config import addresses, values
from noetl.config.addresses import DatabaseUrl, NatsAddress
from noetl.config.variable import setting


class Sources(msgspec.Struct, frozen=True, kw_only=True):
    """Addresses and names"""

    database_url: DatabaseUrl | None = setting(
        "DATABASE_URL", addresses.database_url, None, "postgres://noetl:secret@db:5432/noetl?sslmode=require",
        "Every part it has overrides its POSTGRES_* and PG* variable.", secret=True,
    )  # fmt: skip
    nats_url: NatsAddress | None = setting(
        ("NATS_URL", "NOETL_NATS_URL"), addresses.nats_address, None, "nats://nats.nats.svc:4222",
        "NATS servers, comma separated; without it commands are stored and not announced.", secret=True,
    )  # fmt: skip
    shards: tuple[dict[str, object], ...] = setting(
        "NOETL_SHARDS", addresses.shard_list, (), "host=pg-0;user=noetl;password=s,host=pg-1;user=noetl;password=s",
        "Databases of the shards in order; keys host, port, user, password, database.", secret=True,
    )  # fmt: skip
    cluster: dict[str, object] | None = setting(
        "NOETL_CLUSTER_DSN", addresses.shard_dsn, None, "host=pg-cluster;user=noetl;password=s",
        "Database of what is not sharded; without it the first shard's. Used only with NOETL_SHARDS.", secret=True,
    )  # fmt: skip
    host_name: str | None = setting(
        "HOSTNAME", values.text, None, "noetl-server-0", "Gives the machine id when NOETL_SERVER_MACHINE_ID is unset."
    )
    computer_name: str | None = setting("COMPUTERNAME", values.text, None, "winbox", "The same, on Windows.")
