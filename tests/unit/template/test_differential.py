"""The same templates on the Rust engine that the reference embeds (package ``minijinja``, a test dependency)."""

from __future__ import annotations

import math
import re
import unicodedata
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from noetl.engine.template import TemplateError, render_text
from noetl.engine.template.printing import string_debug

minijinja = pytest.importorskip("minijinja")

SCALARS = (
    st.booleans().map(lambda value: "true" if value else "false")
    | st.integers(-5, 5).map(lambda value: f"({value})")
    | st.integers(-(2**70), 2**70).map(lambda value: f"({value})")
    | st.floats(allow_nan=False, allow_infinity=False, width=32).map(lambda value: f"({value!r})")
    | st.sampled_from(["none", "undefined", '""', '"a"', '"5"', '"é "', "[1, 2]", "[]", "[[1], 'a']", "range(3)"])
    | st.text("ab \\'é😀", max_size=6).map(lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"')
)
OPERATORS = st.sampled_from(
    ["+", "-", "*", "/", "//", "%", "**", "~", "==", "!=", "<", "<=", ">", ">=", "and", "or", "in", "not in"]
)
FILTERS = st.sampled_from(
    [
        "abs",
        "capitalize",
        "title",
        "reverse",
        "round",
        "round(1)",
        "max",
        "min",
        "list",
        "bool",
        "lines",
        "indent",
        "count",
        "replace('a', 'bc')",
        "sort",
        "unique",
        "batch(2)",
        "slice(2, 0)",
        "d('x')",
        "d('x', true)",
        "e",
        "map('string')",
        "select",
        "reject('odd')",
        "sum",
        "pprint",
        "attr('a')",
        "'%5.2f|%s'|format",
        "sort(reverse=true)",
    ]
)
TESTS = st.sampled_from(
    [
        "defined",
        "none",
        "odd",
        "even",
        "number",
        "integer",
        "float",
        "string",
        "sequence",
        "mapping",
        "iterable",
        "lower",
        "upper",
        "sameas 1",
        "eq 1",
        "in [1, 'a']",
        "startingwith 'a'",
        "divisibleby 3",
        "true",
        "lt 2",
    ]
)


@st.composite
def expressions(draw: st.DrawFn, depth: int = 3) -> str:
    if depth == 0:
        return draw(SCALARS)
    inner = expressions(depth - 1)
    match draw(st.integers(0, 8)):
        case 0 | 1 | 2:
            return f"{draw(inner)} {draw(OPERATORS)} {draw(inner)}"
        case 3:
            return f"({draw(inner)})|{draw(FILTERS)}"
        case 4:
            return f"({draw(inner)}) is {draw(TESTS)}"
        case 5:
            return f"({draw(inner)})[{draw(st.sampled_from(['0', '-1', '1:', ':-1', '::2', '5']))}]"
        case 6:
            return f"({draw(inner)} if {draw(inner)} else {draw(inner)})"
        case 7:
            return f"not ({draw(inner)})"
        case _:
            return f"({draw(inner)})"


def reference(source: str) -> str:
    environment = minijinja.Environment()
    environment.undefined_behavior = "chainable"
    try:
        return environment.render_str(source)
    except minijinja.TemplateError as error:
        return "error: " + str(error).partition("\n")[0]
    except BaseException as error:
        # The engine panics where ours answers (comparing wide integers with floats).
        assume("panic" not in type(error).__name__.lower() and "panic" not in str(error))
        raise


def ours(source: str) -> str:
    try:
        return render_text(source, {})
    except TemplateError as error:
        return "error: " + str(error).partition(" error: ")[2]


@settings(max_examples=500, deadline=None, derandomize=True)
@given(expressions())
def test_expressions_agree_with_the_rust_engine(expression: str) -> None:
    source = "{{ " + expression + " }}"
    # The Rust engine has no limit: a large multiple of a text or list ends its process.
    assume(not ("*" in source and re.search(r"[\"\[r]", source) and re.search(r"[0-9]{4}|[0-9]e", source)))
    answer = ours(source)
    assume("exceeds the limit" not in answer)
    expected = reference(source)
    assume("panic" not in expected)
    assert answer == expected


@settings(max_examples=300, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_print_as_in_the_rust_engine(number: float) -> None:
    source = "{{ (" + repr(number) + ") }}|{{ [(" + repr(number) + ")] }}"
    assume(math.isfinite(number))
    assert ours(source) == reference(source)


@pytest.mark.parametrize("plane", range(3))
def test_characters_escape_as_in_the_rust_engine(plane: int) -> None:
    # Characters that the older Unicode tables of Python do not have yet are left out.
    known = [
        chr(code)
        for code in range(plane << 16, (plane + 1) << 16)
        if not 0xD800 <= code < 0xE000 and unicodedata.category(chr(code)) != "Cn"
    ]
    printed = minijinja.Environment().eval_expr(
        "["
        + ",".join(f'"\\u{ord(char):04x}"' if ord(char) < 0x20 or char in '"\\' else f'"{char}"' for char in known)
        + "]|string"
    )
    assert isinstance(printed, str)
    expected = printed[1:-1].split('", "')
    mine: list[Any] = [string_debug(char) for char in known]
    assert '", "'.join(text[1:-1] for text in mine) == '", "'.join(expected)[1:-1]


@given(st.text(alphabet="{}%#-+ \nab", max_size=30))
def test_delimiters_and_white_space_control_agree(text: str) -> None:
    source = "{{ 1 }}" + text + "{% if 1 %}" + "x{% endif %}"
    assert ours(source) == reference(source)
