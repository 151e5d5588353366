"""The log: one JSON object per line on stdout, filtered by `RUST_LOG` (spec 60, section 11)."""

from __future__ import annotations

import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, cast

import orjson

from noetl.config.log_filter import DEBUG, ERROR, INFO, TRACE, WARNING, LogFilter, level_filter
from noetl.observability.context import LogContext, current_context
from noetl.observability.line_writer import LineWriter
from noetl.observability.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from noetl.config import Settings
    from noetl.observability.line_writer import BinaryStream

QUEUE_CAPACITY: Final = 10_000
FLUSH_SECONDS: Final = 5.0
MAXIMUM_TEXT: Final = 32_768
"""Characters of one text in a line; longer ones are cut."""

TARGETS: Final = {
    "noetl": "noetl_server",
    "noetl.app": "noetl_control_plane",
    "noetl.cli": "noetl_control_plane",
    "noetl.http.access": "tower_http::trace",
    "noetl.store.sql": "sqlx::query",
    "asyncpg": "sqlx",
    "nats": "async_nats",
}
"""Logger names to the targets of the reference, which filters name; the longest prefix counts."""

_SAFE_INTEGER: Final = 2**53
_PLAIN_IDS: Final = frozenset({"machine_id"})
_OWN_ATTRIBUTES: Final = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class LoggingHandle:
    """The running log; `close` writes what waits and puts the former handlers back."""

    def __init__(self, writer: LineWriter, handler: JsonHandler, levels: Mapping[str, int]) -> None:
        self._writer = writer
        self._handler = handler
        root = logging.getLogger()
        self._former = (root.handlers[:], {name: logging.getLogger(name).level for name in levels})
        root.handlers[:] = [handler]
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)

    @property
    def dropped(self) -> int:
        """Lines lost because the reader was too slow."""
        return self._writer.dropped

    def close(self) -> None:
        """Stop logging: at most `FLUSH_SECONDS` for a slow reader."""
        handlers, levels = self._former
        root = logging.getLogger()
        if root.handlers == [self._handler]:
            root.handlers[:] = handlers
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
        self._writer.close(FLUSH_SECONDS)


def get_logger(name: str) -> logging.Logger:
    """The logger of a module: ``log.info("message", extra={"execution_id": ...})``; extras become fields."""
    return logging.getLogger(name)


def configure_logging(settings: Settings, stream: BinaryStream | None = None) -> LoggingHandle:
    """Turn the log on for this process, and log the notices of the configuration.

    Args:
        settings: Filter, debug switch, server name and notices are used.
        stream: Where lines go; None is stdout.
    """
    configured = settings.logging
    chosen = configured.filter or level_filter(DEBUG if configured.debug else INFO)
    logging.addLevelName(TRACE, "TRACE")
    handler = JsonHandler(configured.server_name)
    writer = LineWriter(stream or sys.stdout.buffer, QUEUE_CAPACITY, handler.dropped_line)
    handler.writer = writer
    handle = LoggingHandle(writer, handler, logger_levels(chosen))
    log = logging.getLogger("noetl.config")
    for directive in chosen.ignored:
        log.warning("Span directive of RUST_LOG has no effect", extra={"directive": directive})
    for notice in settings.notices:
        log.log(getattr(logging, notice.level), notice.message)
    return handle


def target_of(name: str) -> str:
    """The target that a logger's lines carry: ``noetl.http.events`` is ``noetl_server::http::events``."""
    prefix = name
    while prefix:
        target = TARGETS.get(prefix)
        if target is not None:
            return target + name[len(prefix) :].replace(".", "::")
        prefix = prefix.rpartition(".")[0]
    return name.replace(".", "::")


def logger_levels(chosen: LogFilter) -> dict[str, int]:
    """Levels by logger name that make `logging` filter as ``chosen`` says; the root logger's name is empty."""
    names = {"", "uvicorn", *TARGETS}
    for target in chosen.targets:
        names.update(_loggers_of(target))
    levels = {name: chosen.level_for(target_of(name)) if name else chosen.default for name in names}
    # At TRACE it shows whole requests, with the secrets in their queries.
    return {name: max(level, DEBUG) if _is_of_uvicorn(name) else level for name, level in levels.items()}


def _is_of_uvicorn(name: str) -> bool:
    return name == "uvicorn" or name.startswith("uvicorn.")


def _loggers_of(target: str) -> Iterator[str]:
    for name, known in TARGETS.items():
        if target == known or target.startswith(f"{known}::"):
            yield name + target[len(known) :].replace("::", ".")
    yield target.replace("::", ".")


class JsonHandler(logging.Handler):
    """Makes the line in the thread that logs, while its context is there, and queues it."""

    def __init__(self, server_name: str) -> None:
        super().__init__()
        self._server_name = server_name
        self.writer: LineWriter | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the record's line; a record that cannot be shown is reported the way `logging` does."""
        if self.writer is None:
            return
        try:
            line = self.line(record, current_context())
        except Exception:
            self.handleError(record)
            return
        self.writer.put(line, important=record.levelno > DEBUG)

    def line(self, record: logging.LogRecord, context: LogContext) -> bytes:
        """The record as a JSON object and a newline, in the shape of tracing's JSON layer."""
        fields: dict[str, Any] = {"message": redact(record.getMessage())}
        fields.update(_shown(context.fields.items()))
        fields.update(_shown((key, value) for key, value in record.__dict__.items() if key not in _OWN_ATTRIBUTES))
        _add_exception(fields, record)
        document: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "level": _level_name(record.levelno),
            "fields": fields,
            "target": target_of(record.name),
            "server_name": self._server_name,
        }
        if context.spans:
            spans = [dict(_shown(span.items())) for span in context.spans]
            document |= {"span": spans[-1], "spans": spans}
        return _encode(document)

    def dropped_line(self, count: int) -> bytes:
        """The line that tells of dropped ones."""
        record = logging.makeLogRecord(
            {
                "name": "noetl.observability.logging",
                "levelno": WARNING,
                "levelname": "WARNING",
                "msg": "Log lines were dropped because the reader is too slow",
                "count": count,
            }
        )
        return self.line(record, LogContext({}))


def _level_name(level: int) -> str:
    if level >= ERROR:
        return "ERROR"
    if level >= WARNING:
        return "WARN"
    if level >= INFO:
        return "INFO"
    return "DEBUG" if level >= DEBUG else "TRACE"


def _add_exception(fields: dict[str, Any], record: logging.LogRecord) -> None:
    error = record.exc_info[1] if record.exc_info else None
    if error is None:
        return
    fields.setdefault("error", _one_line(error))
    detail = getattr(error, "detail", None)
    if isinstance(detail, str) and detail:
        fields.setdefault("detail", _cut(redact(detail)))
    if record.levelno >= ERROR:
        fields["stack"] = _cut(redact("".join(traceback.format_exception(error)).rstrip()))


def _one_line(error: BaseException) -> str:
    text = str(error)
    return _cut(redact(" ".join((f"{type(error).__name__}: {text}" if text else type(error).__name__).split())))


def _shown(items: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Fields as they are logged: ids as decimal strings, exceptions in one line, texts without credentials."""
    for key, value in items:
        yield key, _shown_value(key, value)


def _shown_value(key: str, value: Any) -> Any:
    match value:
        case str():
            return _cut(redact(value))
        case None | bool() | float():
            return value
        case int():
            is_id = (key == "id" or key.endswith(("_id", "_ids"))) and key not in _PLAIN_IDS
            return str(value) if is_id or abs(value) > _SAFE_INTEGER else value
        case dict():
            members = cast("dict[Any, Any]", value)
            return dict(_shown((str(name), item) for name, item in members.items()))
        case list() | tuple() | set() | frozenset():
            return [_shown_value(key, item) for item in cast("Iterable[Any]", value)]
        case BaseException():
            return _one_line(value)
        case _:
            return _cut(redact(str(value)))


def _cut(text: str) -> str:
    return text if len(text) <= MAXIMUM_TEXT else f"{text[:MAXIMUM_TEXT]}... ({len(text)} characters)"


def _encode(document: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:
        # A lone surrogate has no UTF-8 form: written as an escape, the line is never lost.
        return orjson.dumps(_escaped(document), option=orjson.OPT_APPEND_NEWLINE)


def _escaped(value: Any) -> Any:
    match value:
        case dict():
            members = cast("dict[str, Any]", value)
            return {_escaped(name): _escaped(item) for name, item in members.items()}
        case list():
            return [_escaped(item) for item in cast("list[Any]", value)]
        case str():
            return value.encode("utf-8", "backslashreplace").decode()
        case _:
            return value
