"""Standard base64, padded and canonical: nothing else is a key or a ciphertext (spec 40, sections 2 and 3)."""

from __future__ import annotations

import base64
import binascii
from typing import Final

_ALPHABET: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")


class Base64Error(ValueError):
    """A text is not strict base64; the message tells the kind and place of the fault, never the text."""


def decode_base64(text: str) -> bytes:
    """Decode ``text``; raises Base64Error for blanks, a foreign alphabet, missing padding and stray trailing bits."""
    try:
        decoded = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Base64Error(_fault(text)) from None
    if base64.b64encode(decoded).decode("ascii") != text:
        raise Base64Error(_fault(text))
    return decoded


def encode_base64(data: bytes) -> str:
    """Standard base64 with padding."""
    return base64.b64encode(data).decode("ascii")


def _fault(text: str) -> str:
    """The reference's words for what is wrong."""
    symbols = text.encode("utf-8", "surrogatepass")
    body = symbols.rstrip(b"=")
    for offset, symbol in enumerate(body):
        if symbol not in _ALPHABET:
            return f"Invalid symbol {symbol}, offset {offset}."
    if len(symbols) % 4 or len(symbols) - len(body) > 2 or len(body) % 4 == 1:
        return "Invalid padding"
    return f"Invalid last symbol {body[-1]}, offset {len(body) - 1}."
