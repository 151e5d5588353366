"""Nodes, positions and limits of the YAML reader; its dialect is in the recorded answers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noetl.engine.playbook.yaml import MappingNode, SequenceNode, YamlError, load_yaml, string_value, to_json

# YAML excludes control characters, and folds or drops the other separators of lines even inside quotes.
CHARACTERS = st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp", "Cn"], exclude_characters="\ufeff")
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(CHARACTERS, max_size=20)
)
JSON = st.recursive(
    SCALARS,
    lambda children: (
        st.lists(children, max_size=4) | st.dictionaries(st.text(CHARACTERS, max_size=8), children, max_size=4)
    ),
    max_leaves=20,
)


@given(JSON)
def test_json_text_is_yaml_with_the_same_value(value: Any) -> None:
    assert to_json(load_yaml(json.dumps(value, ensure_ascii=False))) == value


def test_nodes_know_their_place_and_order() -> None:
    root = load_yaml("b: 1\na:\n  - x\n  - !t {y: z}\n")
    assert isinstance(root, MappingNode)
    assert [string_value(key) for key, _ in root.entries] == ["b", "a"]
    items = root.get("a")
    assert isinstance(items, SequenceNode)
    assert (items.line, items.column) == (3, 3)
    assert (items.items[1].line, items.items[1].column, items.items[1].local_tag) == (4, 5, "!t")
    assert root.get("c") is None


def test_byte_order_mark_is_ignored() -> None:
    assert to_json(load_yaml("\ufeffa: 1\nb: 2\n")) == {"a": 1, "b": 2}


def test_nul_in_a_string_is_refused_naming_its_place() -> None:
    with pytest.raises(YamlError, match=r"Invalid YAML: a\[1\]: control characters are not allowed at line 1 column 8"):
        load_yaml('a: [x, "y\\0"]')


def test_aliases_that_expand_beyond_the_limits_are_refused() -> None:
    levels = ["a0: &a0 [" + "x, " * 9 + "x]"]
    levels += [f"a{n}: &a{n} [" + f"*a{n - 1}, " * 9 + f"*a{n - 1}]" for n in range(1, 9)]
    with pytest.raises(YamlError, match="repetition limit exceeded"):
        load_yaml("\n".join(levels))
    with pytest.raises(YamlError, match="repetition limit exceeded"):
        load_yaml(f"a: &a {'x' * 100_000}\nb: [{'*a, ' * 1000}]\n")


def test_depth_counts_through_aliases() -> None:
    deep = "[" * 100 + "]" * 100
    assert to_json(load_yaml(f"a: &a {deep}\nb: {'[' * 26}*a{']' * 26}")) is not None
    with pytest.raises(YamlError, match="recursion limit exceeded at line 1 column 4"):
        load_yaml(f"a: &a {deep}\nb: {'[' * 28}*a{']' * 28}")


def test_an_alias_of_a_shared_node_is_exported_everywhere() -> None:
    assert to_json(load_yaml("a: &a {x: [1]}\nb: [*a, *a]")) == {"a": {"x": [1]}, "b": [{"x": [1]}, {"x": [1]}]}


def test_lone_surrogates_are_refused() -> None:
    with pytest.raises(YamlError, match="invalid Unicode character at position 3"):
        load_yaml("a: \ud800")


def test_a_text_of_too_many_nodes_is_refused() -> None:
    with pytest.raises(YamlError, match="document has more than 250000 nodes"):
        load_yaml(f"[{'a,' * 250_000}]")
