"""The audit's writer: bounded, patient, strict on demand (spec 40, section 13)."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING

import pytest

from noetl.errors import DatabaseUnavailableError, InternalError
from noetl.secrets import audit as audit_module
from noetl.secrets.audit import SecretAccess, SecretAudit
from noetl.store.database import RefusedStatementError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from noetl.store.secret_audit import AuditRow

ACCESS = SecretAccess(credential="c", operation="get_credential", worker_id="w", execution_id=5)


class Sink:
    """Keeps rows; fails as often as told first, and waits when told."""

    def __init__(self, failures: int = 0) -> None:
        self.rows: list[AuditRow] = []
        self.calls = 0
        self.failures = failures
        self.called = asyncio.Event()
        self.wrote = asyncio.Event()
        self.open = asyncio.Event()
        self.open.set()

    async def insert(self, rows: Sequence[AuditRow]) -> None:
        self.calls += 1
        self.called.set()
        await self.open.wait()
        if self.failures:
            self.failures -= 1
            raise DatabaseUnavailableError("down")
        if any(row.outcome == "refused" for row in rows):
            raise RefusedStatementError("Database error", detail="", sqlstate="22021")
        self.rows.extend(rows)
        self.wrote.set()


class Counts(list[tuple[str, ...]]):
    """Keeps what the metrics are told; ``told`` is set when that is something."""

    def __init__(self) -> None:
        super().__init__()
        self.told = asyncio.Event()

    def __call__(self, *labels: str) -> None:
        self.append(labels)
        self.told.set()


def make(sink: Sink, counts: Counts | None = None, **options: object) -> SecretAudit:
    ids = itertools.count(1)
    return SecretAudit(sink, lambda: next(ids), server_region="eu", count=counts, **options)  # type: ignore[arg-type]


async def test_rows_are_written_in_the_background() -> None:
    sink, counts = Sink(), Counts()
    audit = make(sink, counts)
    runner = asyncio.create_task(audit.run())
    await audit.record(ACCESS, "ok", kek_version="v1")
    async with asyncio.timeout(5):
        await counts.told.wait()
    runner.cancel()
    (row,) = sink.rows
    assert (row.audit_id, row.credential, row.operation, row.outcome) == (1, "c", "get_credential", "ok")
    assert (row.worker_id, row.execution_id, row.server_region, row.kek_version) == ("w", 5, "eu", "v1")
    assert counts == [("get_credential", "ok", "written")]


async def test_a_full_queue_loses_the_newest_and_counts_them() -> None:
    sink, counts = Sink(), Counts()
    audit = make(sink, counts, queue_rows=3)
    for number in range(5):
        await audit.record(ACCESS, str(number))
    await audit.flush(5)
    assert [row.outcome for row in sink.rows] == ["0", "1", "2"]
    assert [(outcome, status) for _, outcome, status in counts] == [
        ("3", "dropped_async"), ("4", "dropped_async"), ("0", "written"), ("1", "written"), ("2", "written"),
    ]  # fmt: skip


async def test_a_database_that_comes_back_gets_what_waited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_module, "RETRY_SECONDS", 0.0)
    sink, counts = Sink(failures=3), Counts()
    audit = make(sink, counts)
    await audit.record(ACCESS, "ok")
    runner = asyncio.create_task(audit.run())
    async with asyncio.timeout(5):
        await sink.wrote.wait()
    runner.cancel()
    assert sink.calls == 4
    assert len(sink.rows) == 1


async def test_a_database_that_stays_away_costs_the_rows_and_not_the_writer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_module, "RETRY_SECONDS", 0.0)
    sink, counts = Sink(failures=audit_module.ATTEMPTS), Counts()
    audit = make(sink, counts)
    await audit.record(ACCESS, "lost")
    runner = asyncio.create_task(audit.run())
    async with asyncio.timeout(5):
        await counts.told.wait()
        await audit.record(ACCESS, "kept")
        await sink.wrote.wait()
    runner.cancel()
    assert [row.outcome for row in sink.rows] == ["kept"]
    assert counts[0] == ("get_credential", "lost", "dropped_async")


async def test_a_row_that_the_table_refuses_costs_only_itself_and_no_time() -> None:
    sink, counts = Sink(), Counts()
    audit = make(sink, counts)
    for outcome in ("1", "refused", "2"):
        await audit.record(ACCESS, outcome)
    runner = asyncio.create_task(audit.run())
    async with asyncio.timeout(audit_module.RETRY_SECONDS / 2):
        while len(counts) < 3:
            counts.told.clear()
            await counts.told.wait()
    await audit.record(ACCESS, "3")
    await audit.record(ACCESS, "4")
    runner.cancel()
    await audit.flush(5)
    assert [row.outcome for row in sink.rows] == ["1", "2", "3", "4"]
    assert counts[1] == ("get_credential", "refused", "dropped_async")
    assert sink.calls == 5, "three alone after one together; then together again"


async def test_every_text_is_one_that_a_column_takes() -> None:
    sink = Sink()
    audit = make(sink)
    access = SecretAccess(credential="a\0", operation="get_credential", client="b\0", worker_id="c\0")
    await audit.record(access, "ok", broker_region="d\0", kek_version="e\ud800", notes="f\0")
    await audit.flush(5)
    (row,) = sink.rows
    assert (row.credential, row.worker_id, row.broker_region) == ("a\ufffd", "c\ufffd", "d\ufffd")
    assert (row.kek_version, row.notes) == ("e?", "f\ufffd; client b\ufffd")


async def test_a_row_being_written_when_the_process_ends_is_written_by_the_flush() -> None:
    sink = Sink()
    sink.open.clear()
    audit = make(sink)
    await audit.record(ACCESS, "ok")
    runner = asyncio.create_task(audit.run())
    await sink.called.wait()
    runner.cancel()
    sink.open.set()
    await audit.flush(5)
    assert [row.audit_id for row in sink.rows] == [1]


async def test_a_flush_ends_in_time() -> None:
    sink, counts = Sink(), Counts()
    sink.open.clear()
    audit = make(sink, counts)
    await audit.record(ACCESS, "ok")
    await audit.flush(0.01)
    assert counts == [("get_credential", "ok", "dropped_async")]


async def test_a_required_row_is_there_before_the_answer() -> None:
    sink, counts = Sink(), Counts()
    await make(sink, counts, required=True, enabled=False).record(ACCESS, "ok")
    assert len(sink.rows) == 1
    assert counts == [("get_credential", "ok", "written")]


async def test_a_required_row_that_cannot_be_written_stops_the_answer() -> None:
    sink, counts = Sink(failures=1), Counts()
    with pytest.raises(InternalError, match="secret audit is required"):
        await make(sink, counts, required=True).record(ACCESS, "ok")
    assert counts == [("get_credential", "ok", "failed_strict")]


async def test_without_either_mode_nothing_is_kept() -> None:
    sink = Sink()
    audit = make(sink, enabled=False)
    await audit.record(ACCESS, "ok")
    await audit.flush(5)
    assert sink.calls == 0
