"""The depth of JSON texts: as the twin counts it, as the value has it, and never more than there is text."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noetl._fast.nesting import depth_of
from tests.unit.fast import twins

TEXTS = st.text(st.characters(exclude_categories=["Cs"])) | st.text('{}[]"\\/u0')
VALUES = st.recursive(
    st.none() | st.integers(0, 9) | TEXTS, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner)
)


def depth(value: Any) -> int:
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


@given(VALUES)
def test_depth_is_that_of_the_value_and_of_the_twin(value: Any) -> None:
    text = orjson.dumps(value)
    assert depth_of(text) == twins.depth_of(text) == depth(value)


@given(st.binary() | st.text('{}[]"\\').map(str.encode))
def test_no_json_has_some_depth(text: bytes) -> None:
    assert 0 <= depth_of(text) <= len(text)


@pytest.mark.parametrize(("text", "expected"), [(b"", 0), (b'"[[', 0), (b'"\\', 0), (b'"\\"[', 0), (b"[" * 300, 300)])
def test_ends_that_are_cut(text: bytes, expected: int) -> None:
    assert depth_of(text) == expected


def test_only_bytes() -> None:
    with pytest.raises(TypeError):
        depth_of("[]")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        depth_of(None)  # type: ignore[arg-type]
