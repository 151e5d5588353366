"""The log filter language of `RUST_LOG`: which level each target logs at (spec 60, section 11.3)."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from noetl.config.problems import InvalidValueError

TRACE: Final = 5
DEBUG: Final = 10
INFO: Final = 20
WARNING: Final = 30
ERROR: Final = 40
OFF: Final = 60

_LEVELS: Final = {
    **{"off": OFF, "error": ERROR, "warn": WARNING, "info": INFO, "debug": DEBUG, "trace": TRACE},
    **{"0": OFF, "1": ERROR, "2": WARNING, "3": INFO, "4": DEBUG, "5": TRACE},
}
_DIRECTIVE: Final = re.compile(
    r"(?P<target>[\w.-]+(?:::[\w.-]+)*)?(?P<span>\[[^\[\]]*\])?(?:=(?P<level>\w*))?", re.ASCII
)


class LogFilter(msgspec.Struct, frozen=True):
    """A parsed filter: ``default`` for targets that no entry of ``targets`` covers, both in `logging`'s numbers.

    ``ignored`` holds directives for spans, which are understood and have no effect.
    """

    text: str
    default: int
    targets: dict[str, int]
    ignored: tuple[str, ...] = ()

    def level_for(self, target: str) -> int:
        """The level of a target such as ``noetl_server::http``: that of its longest prefix by ``::`` segments."""
        while target:
            level = self.targets.get(target)
            if level is not None:
                return level
            target = target.rpartition("::")[0]
        return self.default

    def __str__(self) -> str:
        return self.text


def level_filter(level: int) -> LogFilter:
    """The filter with one level for everything."""
    name = next(name for name, number in _LEVELS.items() if number == level)
    return LogFilter(name, level, {})


def parse_log_filter(text: str) -> LogFilter:
    """Comma list of ``level``, ``target=level`` or ``target`` (alone: trace); later ones win.

    An empty filter, or one without a bare level, leaves everything else at error, as tracing-subscriber does.

    Raises:
        InvalidValueError: A directive has another form or an unknown level.
    """
    default, targets, ignored = ERROR, dict[str, int](), list[str]()
    for directive in (part.strip() for part in text.split(",")):
        if not directive:
            continue
        bare = _LEVELS.get(directive.lower())
        if bare is not None:
            default = bare
            continue
        match = _DIRECTIVE.fullmatch(directive)
        level = _LEVELS.get((match["level"] or "trace").lower()) if match is not None else None
        if match is None or level is None:
            raise InvalidValueError(f"{directive[:80]!a} is not a directive such as info or noetl_server=debug")
        if match["span"] is not None:
            ignored.append(directive)
        elif match["target"] is not None:
            targets[match["target"]] = level
        else:
            raise InvalidValueError(f"{directive[:80]!a} has no target")
    return LogFilter(text, default, targets, tuple(ignored))
