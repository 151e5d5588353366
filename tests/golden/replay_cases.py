"""Reads the recorded replays of ``tests/golden/replay``: rows of the log and the answers, byte for byte."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from noetl.engine.replay import ReplayEvent

FOLDER = Path(__file__).parent / "replay"


class Row(msgspec.Struct, omit_defaults=True):
    """A row of the event log; ``meta`` and ``result`` are JSON texts as PostgreSQL writes them, empty for NULL."""

    event_id: int
    event_type: str
    node_name: str | None = None
    status: str | None = None
    created_at: datetime | None = None
    stage_id: int | None = None
    frame_id: int | None = None
    command_id: int | None = None
    worker_id: str | None = None
    aggregate_type: str | None = None
    aggregate_id: str | None = None
    meta: msgspec.Raw = msgspec.Raw()
    result: msgspec.Raw = msgspec.Raw()

    def columns(self) -> dict[str, Any]:
        """The columns that are not NULL."""
        values = {name: getattr(self, name) for name in self.__struct_fields__}
        values["meta"], values["result"] = bytes(self.meta).decode() or None, bytes(self.result).decode() or None
        return {name: value for name, value in values.items() if value is not None}

    def event(self) -> ReplayEvent:
        """The row as the fold gets it."""
        result = msgspec.json.decode(bytes(self.result) or b"{}", type=dict[str, msgspec.Raw])
        return ReplayEvent(
            self.event_id,
            self.event_type,
            self.node_name,
            self.status or "",
            None if self.stage_id is None else str(self.stage_id),
            None if self.frame_id is None else str(self.frame_id),
            self.command_id,
            self.worker_id,
            self.aggregate_type,
            self.aggregate_id,
            bytes(self.meta) or None,
            bytes(result["reference"]) if "reference" in result else None,
        )


class Answer(msgspec.Struct):
    """What the reference answers to a query: a JSON body, or a text."""

    query: str
    status: int
    body: msgspec.Raw = msgspec.Raw()
    text: str = ""

    @property
    def content(self) -> bytes:
        """The bytes of the body."""
        return bytes(self.body) or self.text.encode()


class Case(msgspec.Struct):
    """A log and what was asked about it."""

    name: str
    execution_id: int
    events: list[Row]
    answers: list[Answer]


def cases(*groups: str) -> list[Case]:
    """The recorded cases of some groups."""
    return [
        case
        for group in groups
        for case in msgspec.json.decode((FOLDER / f"{group}.json").read_bytes(), type=list[Case], strict=False)
    ]
