"""Redaction of secrets in JSON text: every rule by example, then any JSON against the decoding twin."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from noetl._fast.redaction import SENSITIVE_WORDS, Sanitizer, sanitize
from tests.unit.fast import twins

REDACTED = "[REDACTED]"
DIGEST = "0123456789abcdef" * 4


def sanitized(value: Any, **options: Any) -> Any:
    """``value`` after a trip through the sanitizer, written with and without escapes for non-ASCII."""
    plain = json.loads(sanitize(json.dumps(value, ensure_ascii=False).encode(), **options))
    escaped = json.loads(sanitize(json.dumps(value).encode(), **options))
    assert plain == escaped
    return plain


def nested(levels: int, leaf: Any) -> Any:
    for _ in range(levels):
        leaf = {"a": leaf}
    return leaf


def test_the_words_are_the_effective_set() -> None:
    assert list(SENSITIVE_WORDS) == twins.WORDS


@pytest.mark.parametrize("word", SENSITIVE_WORDS)
@pytest.mark.parametrize("value", [None, True, 1.5e3, "x", "", [], [1, {"a": "]"}], {}, {"a": {"b": ["}"]}}])
def test_any_value_under_a_sensitive_key_is_redacted(word: str, value: Any) -> None:
    for key in (word, word.upper(), f"my_{word}s", word.replace("_", "-"), f"ü{word}"):
        assert sanitized({"before": 1, key: value, "after": [2]}) == {"before": 1, key: REDACTED, "after": [2]}


@pytest.mark.parametrize(
    "key", ["author", "authority", "max_tokens", "tokenizer", "certified", "concert", "secretary", "recipemaker"]
)
def test_known_false_positives_stay(key: str) -> None:
    assert sanitized({key: 1}) == {key: REDACTED}


@pytest.mark.parametrize("key", ["", "key", "keys", "monkey", "temperature", "api key", "tok-en", "passwor", "pass"])
def test_harmless_keys_are_kept(key: str) -> None:
    assert sanitized({key: 1}) == {key: 1}


def test_keys_are_folded_as_unicode() -> None:
    assert sanitized({"to\N{KELVIN SIGN}en": 1}) == {"to\N{KELVIN SIGN}en": REDACTED}


@pytest.mark.parametrize(
    "text",
    [
        "Bearer x",
        "bearer ",
        "BASIC dXNlcg==",
        "bAsIc ",
        "eyJ" + "a" * 20 + "." + "_" * 20 + "." + "b" * 6,
        "eyJ" + "é" * 23 + "..",
        "-----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY-----",
        "PRIVATE KEY----- and -----BEGIN",
        "a" * 40,
        "Zm9v+/==" * 5,
        "é" * 20,
        "\u4e00" * 14,
        "½" * 20,
        "0" * 64,
    ],
)
def test_secret_looking_texts_are_redacted(text: str) -> None:
    assert sanitized({"a": [text]}) == {"a": [REDACTED]}
    assert sanitized(text) == REDACTED


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Bearer",
        "basicx",
        " Bearer x",
        "eyJ" + "a" * 20 + "." + "_" * 20 + "." + "b" * 5,
        "eyJ" + "_" * 50 + ".",
        "eyJ" + "_" * 50 + "...",
        "-----BEGIN CERTIFICATE-----",
        "----BEGIN PRIVATE KEY-----",
        "a" * 39,
        "a" * 40 + "_",
        "a" * 40 + "\n",
        "é" * 20 + " ",
        "383267245008121856:start:383267245050064896",
        "e\N{COMBINING ACUTE ACCENT}" * 20,
    ],
)
def test_other_texts_are_kept(text: str) -> None:
    assert sanitized({"a": [text]}) == {"a": [text]}


def test_sha256_digest_is_kept_under_its_name_only() -> None:
    value = {"sha256": DIGEST, "sha": DIGEST, "list": [DIGEST], "inner": {"sha256": DIGEST}}
    assert sanitized(value) == {"sha256": DIGEST, "sha": REDACTED, "list": [REDACTED], "inner": {"sha256": DIGEST}}
    assert sanitized({"SHA256": DIGEST}) == {"SHA256": REDACTED}
    assert sanitized([{"sha256": 1}, DIGEST]) == [{"sha256": 1}, REDACTED]
    assert sanitized({"sha256": [DIGEST]}) == {"sha256": [REDACTED]}


@pytest.mark.parametrize("text", [DIGEST.upper(), DIGEST + "0", DIGEST[1:], "g" * 64, "Bearer " + DIGEST])
def test_sha256_name_protects_nothing_but_a_digest(text: str) -> None:
    assert sanitized({"sha256": text}) == {"sha256": REDACTED}


def test_depth_limit_is_the_reference_servers() -> None:
    # the root is depth 0: keys of objects down to depth 19 are checked, and texts down to depth 19
    assert sanitized(nested(18, {"text": "Bearer x"})) == nested(18, {"text": REDACTED})
    assert sanitized(nested(19, {"pwd": 1, "text": "Bearer x"})) == nested(19, {"pwd": REDACTED, "text": "Bearer x"})
    assert sanitized(nested(20, {"pwd": 1, "nul": "a\0"})) == nested(20, {"pwd": 1, "nul": "a"})
    assert sanitized([nested(20, {"pwd": 1}), {"pwd": 1}]) == [nested(20, {"pwd": 1}), {"pwd": REDACTED}]


def test_escapes_stand_for_their_characters() -> None:
    raw = rb'{"pass\u0077ord":1,"\u0073ha256":"%s","x":"\u0042earer y","z":"a\/"}' % DIGEST.encode()
    assert json.loads(sanitize(raw)) == {"password": REDACTED, "sha256": DIGEST, "x": REDACTED, "z": "a/"}
    assert sanitize(rb'["%s"]' % (b"\\/" * 40)) == b'["[REDACTED]"]'
    assert sanitize(rb'["%s"]' % (b"\\/" * 39)) == rb'["%s"]' % (b"\\/" * 39)
    assert sanitize(rb'["\"pwd\":1,{"]') == rb'["\"pwd\":1,{"]'


def test_nul_escapes_disappear_from_keys_and_texts() -> None:
    assert sanitize(rb'{"a\u0000b":"\u0000x\u0000\u0000y\n","c":"\\u0000"}') == rb'{"ab":"xy\n","c":"\\u0000"}'
    assert sanitize(rb'{"pass\u0000word":"a\u0000"}') == b'{"password":"[REDACTED]"}'
    assert sanitize(rb'"Bear\u0000er x"') == b'"[REDACTED]"'


def test_clean_text_is_returned_as_the_same_object() -> None:
    raw = b' { "status" : "COMPLETED", "rows" : [ 1, -2.5e7, true, null, "M\xc3\xbcller" ], "note": "a\\n\\u00e9" } '
    assert sanitize(raw) is raw
    assert sanitize(b"") == b""


def test_blanks_and_numbers_outside_of_secrets_stay_as_they_are() -> None:
    raw = b'{ "big" : 123456789012345678901234567890 , "token" : [ 1 ] , "e" : 1E5 }'
    assert sanitize(raw) == b'{ "big" : 123456789012345678901234567890 , "token" : "[REDACTED]" , "e" : 1E5 }'
    assert sanitize(b'{"token" : 1 }') == b'{"token" : "[REDACTED]" }'


def test_extra_keys_extend_the_words() -> None:
    value = {"Kunden-Nr": 1, "iban": 2, "größe": 3, "q": 4, "password": 5}
    redacted = sanitized(value, extra_keys=("kunden_nr", "IBAN", "GRÖSSE", "GRÖẞE"))
    assert redacted == {"Kunden-Nr": REDACTED, "iban": REDACTED, "größe": REDACTED, "q": 4, "password": REDACTED}
    assert sanitized({"seq": 1, "a": 2}, extra_keys=("q",)) == {"seq": REDACTED, "a": 2}
    assert Sanitizer(["iban", "token"]).words == (*SENSITIVE_WORDS, "iban")
    with pytest.raises(ValueError):
        Sanitizer([""])


MARKERS = ["-", "_", "sha256", "Bearer ", "basic ", "eyJ", ".", "-----BEGIN", "PRIVATE KEY-----", "\0", "\\", "u0000"]
OTHERS = ['"', "/", "\n", "é", "\u4e00", "\U0001f600", "\N{KELVIN SIGN}", "a" * 20, "A" * 40, DIGEST, "{", ":"]
FRAGMENTS = st.sampled_from([*SENSITIVE_WORDS, *MARKERS, *OTHERS])
TEXTS = st.one_of(st.text(max_size=60), st.lists(FRAGMENTS, max_size=5).map("".join))
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), TEXTS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(TEXTS, inner, max_size=4),
        st.tuples(st.integers(15, 21), inner).map(lambda pair: nested(*pair)),
    ),
    max_leaves=20,
)
LAYOUTS = st.sampled_from([{}, {"ensure_ascii": False}, {"separators": (",", ":")}, {"indent": 1}])


@given(VALUES, LAYOUTS, st.sampled_from([(), ("q",), ("İ", "iban-nr"), ("e",)]))
@example({"a\0": "x", "sha256": DIGEST}, {}, ())
def test_any_json_equals_the_decoding_twin(value: Any, layout: dict[str, Any], extra_keys: tuple[str, ...]) -> None:
    raw = json.dumps(value, **layout).encode("utf-8", "surrogatepass")
    result = sanitize(raw, extra_keys)
    assert json.loads(result.decode("utf-8", "surrogatepass")) == json.loads(
        twins.sanitize(raw, extra_keys).decode("utf-8", "surrogatepass")
    )
    assert sanitize(result, extra_keys) == result


@given(st.one_of(st.binary(max_size=200), st.lists(st.sampled_from([*b'{}[]":,\\u0 ']), max_size=60).map(bytes)))
def test_bytes_that_are_no_json_do_no_harm(raw: bytes) -> None:
    with suppress(ValueError):
        assert isinstance(sanitize(raw), bytes)


def test_other_types_are_refused() -> None:
    for value in (None, "{}", bytearray(b"{}")):
        with pytest.raises(TypeError):
            sanitize(value)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            Sanitizer().sanitize(value)  # type: ignore[arg-type]
