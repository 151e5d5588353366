"""Secrets are compared in a time that does not depend on where they differ (spec 40, section 19)."""

from __future__ import annotations

import ast
import hmac
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from blacksheep import Request

import noetl
from noetl.config.secret import Secret
from noetl.errors import UnauthorizedError
from noetl.http.internal_auth import InternalToken

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(noetl.__file__).parent
CALLS = {"secret.py": 1, "internal_auth.py": 1}
"""Where secrets are compared at all; a new place is to be reviewed, and named here."""


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bytes, bytes]]:
    """What `hmac.compare_digest` was asked."""
    seen: list[tuple[bytes, bytes]] = []
    original = hmac.compare_digest

    def compare(one: bytes, other: bytes) -> bool:
        seen.append((one, other))
        return original(one, other)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    return seen


@pytest.mark.parametrize(
    "presented", ["token-of-the-server", "token-of-the-serveR", "xoken-of-the-server", "t", "x" * 99]
)
def test_a_token_of_a_request_is_compared_as_a_whole(presented: str, compared: list[tuple[bytes, bytes]]) -> None:
    token = InternalToken(Secret("token-of-the-server"))
    request = Request("GET", b"/", [(b"authorization", f"Bearer {presented}".encode())])
    try:
        token.require(request)
    except UnauthorizedError:
        assert presented != "token-of-the-server"
    else:
        assert presented == "token-of-the-server"
    assert compared == [(presented.encode(), b"token-of-the-server")]


def test_secrets_are_compared_as_a_whole(compared: list[tuple[bytes, bytes]]) -> None:
    assert Secret("a") != Secret("b")
    assert Secret(b"a") == Secret(b"a")
    assert compared == [(b"a", b"b"), (b"a", b"a")]


def comparisons() -> Iterator[tuple[str, ast.Compare]]:
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare):
                yield path.name, node


def test_no_revealed_secret_is_compared_by_an_operator() -> None:
    assert [
        (name, ast.unparse(node))
        for name, node in comparisons()
        if any(
            isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute) and part.func.attr == "reveal"
            for operand in (node.left, *node.comparators)
            for part in ast.walk(operand)
        )
    ] == []


def test_every_place_that_compares_secrets_is_known() -> None:
    found = {path.name: path.read_text().count("compare_digest(") for path in ROOT.rglob("*.py")}
    assert {name: count for name, count in found.items() if count} == CALLS
