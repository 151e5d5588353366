"""Values in and out: coercion, whole values, pipelines, identity of context values (spec 30, section 5)."""

from __future__ import annotations

import copy
import math
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noetl.engine.template import (
    TemplateError,
    coerce,
    is_template,
    render_and_coerce,
    render_pipeline,
    render_text,
    render_value,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda children: st.lists(children, max_size=4) | st.dictionaries(TEXT, children, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{ x", False),
        ("x }}", False),
        ("{# c #}", False),
        ("}} {{", True),
        ("{% x %}", True),
        ("%} {%", True),
        ("{{%}", True),
    ],
)
def test_what_counts_as_a_template(text: str, expected: bool) -> None:
    assert is_template(text) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a": 1}', {"a": 1}),
        (" [1, 2] ", [1, 2]),
        ("[1, 2,]", "[1, 2,]"),
        ("{a}", "{a}"),
        ("true", True),
        (" false ", False),
        ("True", "True"),
        ("007", 7),
        ("+5", 5),
        ("-0", 0),
        (" 12 ", 12),
        ("9223372036854775807", 2**63 - 1),
        ("-9223372036854775808", -(2**63)),
        ("9223372036854775808", 9.223372036854775808e18),
        ("1e5", 100000.0),
        (".5", 0.5),
        ("5.", 5.0),
        (".", "."),
        ("1e", "1e"),
        ("inf", "inf"),
        ("nan", "nan"),
        ("1e400", "1e400"),
        ("1_0", "1_0"),
        ("0x1F", "0x1F"),
        ("٣", "٣"),
        ("null", None),
        ("None", None),
        ("none", "none"),
        ("", None),
        (" \u3000 ", None),
        ("\x1c", "\x1c"),
        ("  x ", "  x "),
        ('"x"', '"x"'),
    ],
)
def test_text_is_coerced(text: str, expected: Any) -> None:
    value = coerce(text)
    assert (type(value), value) == (type(expected), expected)


@given(st.integers(-(2**63), 2**63 - 1) | st.booleans() | st.none() | st.floats(allow_nan=False, allow_infinity=False))
def test_lone_scalar_comes_back_as_it_went_in(value: Any) -> None:
    result = render_and_coerce("{{ x }}", {"x": value})
    assert type(result) is type(value)
    assert result == value


@given(JSON.filter(lambda value: isinstance(value, (list, dict))))
def test_lone_container_is_the_value_of_the_context_itself(value: Any) -> None:
    before = copy.deepcopy(value)
    assert render_and_coerce(" {{ x }}\n", {"x": value}) is value
    assert render_and_coerce("{{ y or x }}", {"x": value}) in (value, None)
    assert value == before


@given(JSON)
def test_rendering_changes_nothing_in_the_context(value: Any) -> None:
    context = {"x": value}
    before = copy.deepcopy(context)
    for source in (
        "{{ x }}",
        "a{{ x|tojson }}",
        "{% for i in x if i %}{{ i }}{% endfor %}",
        "{{ [x, none] }}",
        "{{ x|list|sort }}",
    ):
        with suppress(TemplateError):
            render_value({"k": source}, context)
    assert context == before


@given(JSON)
def test_json_text_of_a_value_parses_back_to_it(value: Any) -> None:
    text = render_text("{{ x|tojson }}", {"x": value})
    from_text = render_and_coerce("{{ x|tojson|fromjson }}", {"x": [value]})
    assert coerce(f"[{text}]") == [value]
    assert from_text == [value]


def test_null_and_none_inside_a_lone_container_become_null() -> None:
    context = {"l": [1, None]}
    assert render_and_coerce("{{ [l, none, undefined, {'a': missing}] }}", context) == [
        [1, None],
        None,
        None,
        {"a": None},
    ]


def test_container_within_text_keeps_the_debug_form() -> None:
    assert render_and_coerce("x={{ m }}", {"m": {"b": [1.0, None, 'q"'], "a": True}}) == (
        'x={"a": true, "b": [1.0, undefined, "q\\""]}'
    )


def test_container_without_a_json_form_becomes_its_text() -> None:
    assert render_and_coerce("{{ {1: 2} }}", {}) == "{1: 2}"
    assert render_and_coerce("{{ [1/0] }}", {}) == "[inf]"
    assert render_and_coerce("{{ 0/0 }}", {}) == "NaN"


def test_integers_beyond_64_bit_read_as_floats() -> None:
    context = {"x": 2**63, "m": {"x": 2**64 - 1}}
    assert render_text("{{ x }}|{{ m.x }}|{{ [m.x] }}", context) == (
        "9223372036854776000.0|18446744073709552000.0|[1.8446744073709552e19]"
    )
    result = render_and_coerce("{{ x }}", context)
    assert isinstance(result, float)
    assert render_text("{{ 9223372036854775807 + 1 }}", {}) == "9223372036854775808"


def test_blanks_around_a_lone_expression_stay_with_a_string() -> None:
    assert render_and_coerce("  {{ s }} \n", {"s": "a"}) == "  a "
    assert render_and_coerce("  {{- s -}} ", {"s": "a"}) == "a"
    assert render_and_coerce("  {{ s }} ", {"s": "5"}) == 5
    assert render_and_coerce("  {{ s }} ", {}) is None


def test_keys_are_rendered_as_text_and_the_last_source_wins() -> None:
    value = {"{{ a }}": 1, "{{ b }}": 2, "plain": "{{ a }}", "5": "5"}
    assert render_value(value, {"a": 7, "b": 7}) == {"7": 2, "plain": 7, "5": 5}


def test_other_values_pass_unchanged() -> None:
    assert render_value([1, None, True, 1.5, {"a": [False]}], {}) == [1, None, True, 1.5, {"a": [False]}]


def test_deferred_blocks_are_kept_and_the_rest_is_rendered() -> None:
    config = [
        {"one": {"args": {"a": "{{ _prev.x }}", "b": "{{ i }} {{ _results['a'] }} {{ my_prev }}", "c": "{{ i }}"}}},
        {
            "two": {
                "code": "{% if _prev %}1{% else %}0{% endif %}",
                "d": "x={{ {'a':{'b':_prev}} }}",
                "{{ _prev.k }}": 1,
            }
        },
    ]
    assert render_pipeline(config, {"i": 5}) == [
        {"one": {"args": {"a": "{{ _prev.x }}", "b": "5 {{ _results['a'] }} ", "c": 5}}},
        {"two": {"code": 0, "d": "x={{ {'a':{'b':_prev}} }}", "": 1}},
    ]


def test_text_with_a_nul_character_is_refused() -> None:
    for source in ('{{ "\\0" }}', 'x{{ "\\0" }}', '{{ ["\\0"] }}', '["\\u0000"]', "\0"):
        with pytest.raises(TemplateError, match="NUL"):
            render_value(source, {})
    assert render_value('["\\\\u0000"]', {}) == ["\\u0000"]


def test_error_texts_carry_kind_detail_and_line() -> None:
    for source, message in {
        "{{ 1 + }}": "Template parse error: syntax error: unexpected end of variable block (in <string>:1)",
        "\n{{ x|nope }}": "Template render error: unknown filter: filter nope is unknown (in <string>:2)",
        "{{ 1|upper(2) }}": "Template render error: too many arguments (in <string>:1)",
        "{{ m.items() }}": "Template render error: unknown method: map has no method named items (in <string>:1)",
        '{{ "\\ud83d" }}': "Template parse error: bad string escape (in <string>:1)",
    }.items():
        with pytest.raises(TemplateError) as caught:
            render_text(source, {"m": {}})
        assert str(caught.value) == message


def test_deeply_nested_data_is_an_error_and_not_a_crash() -> None:
    deep: Any = []
    for _ in range(5000):
        deep = [deep]
    assert render_and_coerce("{{ x }}", {"x": deep}) is deep
    with pytest.raises(TemplateError, match="recursion limit exceeded"):
        render_text("a{{ x }}", {"x": deep})


def test_infinite_float_of_a_text_is_text() -> None:
    assert render_and_coerce("{{ 1e308 * 10 }}", {}) == "inf"
    assert math.isclose(render_and_coerce("{{ 0.1 + 0.2 }}", {}), 0.3)
