"""Texts that are found again in whatever form they come out: encoded, escaped, or in pieces."""

from __future__ import annotations

import base64
import re
import secrets
from typing import Final

ALPHABET: Final = "ABCDEFGHJKMNPQRSTVWXYZabcdefghjkmnpqrstvwxyz"
FINGERPRINT_CHARACTERS: Final = 10
_SEPARATORS: Final = re.compile(rb"[\s\"',+\\]+")


class Family:
    """Secrets of one kind. Each has its number, and the fingerprint of the family at its begin and its end.

    So a piece of it is recognised as well, and one search finds all of them.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.fingerprint = "".join(secrets.choice(ALPHABET) for _ in range(FINGERPRINT_CHARACTERS))
        self._origins: dict[int, str] = {}
        self._needles = re.compile(b"|".join(sorted({re.escape(form.lower()) for form in forms(self.fingerprint)})))

    def text(self, origin: str) -> str:
        """A new secret, with characters that every encoding changes; ``origin`` says where it goes in."""
        return self._mark(origin, '"\\é/+ &%')

    def token(self, origin: str) -> str:
        """A new secret of letters, digits and ``-``, for where nothing else is taken."""
        return self._mark(origin, "-")

    def _mark(self, origin: str, joint: str) -> str:
        number = len(self._origins) + 1
        self._origins[number] = origin
        return f"{self.fingerprint}{number:05}{joint}{self.fingerprint}"

    def found_in(self, output: bytes) -> list[str]:
        """What of the family is in ``output``, each with its surroundings and, where it can be told, its origin."""
        folded = output.lower()
        hits = [self._shown(folded, hit) for hit in self._needles.finditer(folded)]
        # A text that was wrapped or put together again from pieces.
        joined = _SEPARATORS.sub(b"", folded)
        return hits or [self._shown(joined, hit) for hit in self._needles.finditer(joined)]

    def _shown(self, output: bytes, hit: re.Match[bytes]) -> str:
        number = re.match(rb"\d{5}", output[hit.end() :])
        origin = self._origins.get(int(number[0]), "?") if number else "?"
        surroundings = output[max(hit.start() - 120, 0) : hit.end() + 60].decode(errors="replace")
        return f"{self.name} from {origin}: ...{surroundings}..."


def forms(text: str) -> set[bytes]:
    """An ASCII text as encodings show it, wherever in a longer text it stands; letters of either case count alike."""
    plain = text.encode()
    encoded = {plain, plain[::-1], plain.hex().encode(), plain[::-1].hex().encode()}
    encoded.add("".join(f"%{octet:02x}" for octet in plain).encode())
    encoded.add("".join(f"\\u{octet:04x}" for octet in plain).encode())
    encoded.add("".join(f"\\x{octet:02x}" for octet in plain).encode())
    encoded.add("".join(f"&#{octet};" for octet in plain).encode())
    encoded.add(", ".join(str(octet) for octet in plain).encode())
    encoded.add(",".join(str(octet) for octet in plain).encode())
    for shift in range(3):
        # Only the characters that do not depend on the neighbours; b32 shifts by 5 alike.
        encoded.add(base64.b64encode(bytes(shift) + plain)[(shift * 8 + 5) // 6 : (shift + len(plain)) * 8 // 6])
    for shift in range(5):
        encoded.add(base64.b32encode(bytes(shift) + plain)[(shift * 8 + 4) // 5 : (shift + len(plain)) * 8 // 5])
    return encoded | {form.replace(b"+", b"-").replace(b"/", b"_") for form in encoded}
