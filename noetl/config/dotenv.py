"""The `.env` file: assignments that stand in for missing environment variables."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from noetl.config.problems import Notice

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_ASSIGNMENT: Final = re.compile(
    r"""[ \t]*(?:export[ \t]+)?(?P<name>[A-Za-z_][A-Za-z0-9_.]*)[ \t]*=[ \t]*
    (?P<value>(?:'[^']*'|"(?:[^"\\]|\\.)*"|\\.|[^'"\\\s\#]|[ \t]+(?=[^\s\#])|(?<=\S)\#)*)
    [ \t]*(?:\#[^\n]*)?(?=\r?\n|\Z)""",
    re.VERBOSE | re.DOTALL,
)
_PIECE: Final = re.compile(
    r"""'(?P<literal>[^']*)' | "(?P<quoted>(?:[^"\\]|\\.)*)" | (?P<plain>(?:\\.|[^'"\\])+)""", re.VERBOSE | re.DOTALL
)
_ESCAPE_OR_REFERENCE: Final = re.compile(
    r"\\(?P<escaped>.)|\$\{(?P<braced>[A-Za-z_]\w*)\}|\$(?P<bare>[A-Za-z_]\w*)", re.DOTALL
)


def find_dotenv(directory: Path) -> Path | None:
    """The `.env` file of the directory, or of the nearest parent that has one."""
    start = directory.absolute()
    return next((path / ".env" for path in (start, *start.parents) if (path / ".env").is_file()), None)


def read_dotenv(path: Path, environ: Mapping[str, str]) -> tuple[dict[str, str], list[Notice]]:
    """The assignments of a `.env` file that ``environ`` does not have, and remarks on what could not be read.

    A line is ``NAME=value``, ``export NAME=value``, a comment or blank. Single quotes keep everything; double quotes
    and plain values know ``\\`` escapes and ``$NAME`` / ``${NAME}``. The file may belong to another program of the same
    directory tree, so a line of another form is skipped with a remark (that never shows its content).
    """
    try:
        content = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        return {}, [Notice("WARNING", f"{path} cannot be read and is ignored: {type(error).__name__}")]
    found: dict[str, str] = {}
    notices: list[Notice] = []
    position = 0
    while position < len(content):
        end = content.find("\n", position)
        end = len(content) if end < 0 else end
        line = content[position:end].strip()
        match = _ASSIGNMENT.match(content, position) if line and not line.startswith("#") else None
        if match is not None:
            found.setdefault(match["name"], _expand(match["value"], {**found, **environ}))
            position = match.end()
            position = content.find("\n", position) + 1 or len(content)
            continue
        if line and not line.startswith("#"):
            number = content.count("\n", 0, position) + 1
            notices.append(Notice("WARNING", f"{path} line {number} is not an assignment and is ignored"))
        position = end + 1
    return {name: value for name, value in found.items() if name not in environ}, notices


def _expand(value: str, known: Mapping[str, str]) -> str:
    def replace(match: re.Match[str], *, quoted: bool) -> str:
        escaped = match["escaped"]
        if escaped is not None:
            return "\n" if quoted and escaped == "n" else escaped
        return known.get(match["braced"] or match["bare"], "")

    pieces: list[str] = []
    for piece in _PIECE.finditer(value):
        if piece["literal"] is not None:
            pieces.append(piece["literal"])
        elif piece["quoted"] is not None:
            pieces.append(_ESCAPE_OR_REFERENCE.sub(lambda match: replace(match, quoted=True), piece["quoted"]))
        else:
            pieces.append(_ESCAPE_OR_REFERENCE.sub(lambda match: replace(match, quoted=False), piece["plain"]))
    return "".join(pieces)
