# cython: freethreading_compatible=True
"""Redaction of secrets in JSON text, in one pass and without decoding it (spec 20, section 9)."""

import json

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.stdint cimport uint32_t
from libc.string cimport memchr, memcmp, memset

SENSITIVE_WORDS = (
    "password", "passwd", "pwd", "secret", "token", "bearer", "api_key", "apikey", "auth", "credential", "private_key",
    "privatekey", "connection_string", "connectionstring", "gcp_key", "azure_key", "ssh_key", "sshkey", "passphrase",
    "pem", "cert", "encryption_key", "decrypt_key", "master_key",
)

cdef enum:
    DEPTH_LIMIT = 20
    SHORTEST_OPAQUE = 40
    SHORTEST_JWT = 51
    SHA256_DIGITS = 64

# What `Literal.found` tells of the characters of a string.
cdef enum Found:
    DELIMITER = 1       # the byte ends or escapes: only a class of bytes, never in `found`
    NOT_OPAQUE = 2      # an ASCII character other than letters, digits, + / =
    NOT_ASCII = 4
    DASH = 8
    DOT = 16
    NOT_HEXADECIMAL = 32
    SHORT_ESCAPE = 64   # \n, \", \/ ...
    UNICODE_ESCAPE = 128
    NUL_ESCAPE = 256


cdef inline bint is_blank(unsigned char byte) noexcept:
    return byte == b" " or byte == b"\n" or byte == b"\t" or byte == b"\r"


cdef inline Py_ssize_t skip_blanks(const unsigned char* text, Py_ssize_t size, Py_ssize_t position) noexcept:
    while position < size and is_blank(text[position]):
        position += 1
    return position


cdef bint contains(const unsigned char* text, Py_ssize_t length, const char* word, Py_ssize_t word_length) noexcept:
    cdef const unsigned char* end = text + length - word_length + 1
    cdef const unsigned char* place = text
    while place < end:
        place = <const unsigned char*>memchr(place, word[0], end - place)
        if place == NULL:
            return False
        if memcmp(place, word, word_length) == 0:
            return True
        place += 1
    return False


cdef bint starts_with_scheme(
    const unsigned char* text, Py_ssize_t length, const char* scheme, Py_ssize_t size
) noexcept:
    # `scheme` is lower-case letters and a blank at the end; 0x20 is the case bit of letters.
    cdef Py_ssize_t index
    if length < size or text[size - 1] != b" ":
        return False
    for index in range(size - 1):
        if (text[index] | 0x20) != <unsigned char>scheme[index]:
            return False
    return True


cdef str decoded(bytes raw, Literal* literal):
    """The text of a string literal, without U+0000."""
    return json.loads(raw[literal.start - 1:literal.end + 1].decode("utf-8", "surrogatepass")).replace("\0", "")


cdef bint is_secret_text(str text, bint named_sha256) except -1:
    """The value rule on decoded text."""
    cdef Py_ssize_t length
    if text[:7].lower() == "bearer " or text[:6].lower() == "basic ":
        return True
    if "-----BEGIN" in text and "PRIVATE KEY-----" in text:
        return True
    length = len(text.encode("utf-8", "surrogatepass"))
    if length >= SHORTEST_JWT and text.startswith("eyJ") and text.count(".") == 2:
        return True
    if named_sha256 and len(text) == SHA256_DIGITS and not text.strip("0123456789abcdef"):
        return False
    return length >= SHORTEST_OPAQUE and all(character.isalnum() or character in "+/=" for character in text)


cdef Py_ssize_t drop_nuls(list parts, bytes raw, Py_ssize_t copied, Literal* literal) except -1:
    """Appends what precedes each NUL escape of the literal; returns how far ``raw`` is copied then."""
    cdef const unsigned char* text = <const unsigned char*>PyBytes_AS_STRING(raw)
    cdef Py_ssize_t position = literal.start
    while position < literal.end:
        if text[position] != b"\\":
            position += 1
        elif text[position + 1] != b"u":
            position += 2
        else:
            if position + 6 <= literal.end and memcmp(text + position, b"\\u0000", 6) == 0:
                parts.append(raw[copied:position])
                copied = position + 6
            position += 6
    return copied


@cython.final
cdef class Sanitizer:
    """Redacts JSON texts by the built-in words and ``extra_keys``; immutable, so one may serve everybody."""

    def __cinit__(self, extra_keys=()):
        extra = tuple(key.lower().replace("-", "_") for key in extra_keys)
        if "" in extra:
            raise ValueError("an empty extra key would redact every value")
        self.words = tuple(dict.fromkeys(SENSITIVE_WORDS + extra))
        self.fill_characters()
        self.fill_words()

    def __dealloc__(self):
        PyMem_Free(self.table)

    cdef int fill_words(self) except -1:
        # Keys that are not ASCII take the way through decoded text, so the table holds the ASCII words only.
        cdef bytes word
        cdef Py_ssize_t index, length
        cdef const unsigned char* text
        cdef int letter
        self.encoded = tuple(sorted(word.encode() for word in self.words if word.isascii()))
        self.table = <Word*>PyMem_Malloc(len(self.encoded) * sizeof(Word))
        if self.table == NULL:
            raise MemoryError
        memset(self.second_letters, 0, sizeof(self.second_letters))
        memset(self.buckets, 0, sizeof(self.buckets))
        for index, word in enumerate(self.encoded):
            text = <const unsigned char*>PyBytes_AS_STRING(word)
            length = PyBytes_GET_SIZE(word)
            self.table[index].text = text
            self.table[index].length = length
            self.buckets[text[0] + 1] += 1
            # The five low bits of the second letter decide whether the words of a first letter are worth a look.
            self.second_letters[text[0]] |= <uint32_t>0xFFFFFFFF if length == 1 else <uint32_t>1 << (text[1] & 31)
        for letter in range(256):
            self.buckets[letter + 1] += self.buckets[letter]
        return 0

    cdef void fill_characters(self) noexcept:
        cdef int byte
        cdef bint digit, lower, upper
        for byte in range(256):
            digit = c"0" <= byte <= c"9"
            lower = c"a" <= byte <= c"z"
            upper = c"A" <= byte <= c"Z"
            self.folded[byte] = byte + 32 if upper else (c"_" if byte == c"-" else byte)
            self.classes[byte] = 0 if digit or c"a" <= byte <= c"f" else NOT_HEXADECIMAL
            if byte == c'"' or byte == c"\\":
                self.classes[byte] = DELIMITER
            elif byte >= 128:
                self.classes[byte] |= NOT_ASCII
            elif not (digit or lower or upper or byte == c"+" or byte == c"/" or byte == c"="):
                self.classes[byte] |= NOT_OPAQUE
            if byte == c"-":
                self.classes[byte] |= DASH
            if byte == c".":
                self.classes[byte] |= DOT

    def sanitize(self, bytes raw not None):
        """``raw`` with secrets replaced and NUL escapes dropped; ``raw`` itself when there is nothing to change.

        ``raw`` is one valid JSON value in UTF-8 at depth 0. What comes out for other bytes is unspecified (a ValueError
        or bytes), but it never reads outside of them.
        """
        return self.redact(raw)

    cdef bytes redact(self, bytes raw):
        """`sanitize` for other extensions; ``raw`` is not None."""
        cdef const unsigned char* text = <const unsigned char*>PyBytes_AS_STRING(raw)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(raw)
        cdef Py_ssize_t position = 0
        cdef Py_ssize_t copied = 0
        cdef Py_ssize_t named_sha256 = -1   # where the value of a member of that name begins
        cdef Py_ssize_t depth = 0           # containers open here, which is the depth of a value that begins here
        cdef Py_ssize_t following
        cdef unsigned char byte
        cdef Literal literal
        cdef list parts = None
        while position < size:
            byte = text[position]
            position += 1
            if byte == b"{" or byte == b"[":
                depth += 1
                continue
            if byte == b"}" or byte == b"]":
                depth -= 1
                continue
            if byte != b'"':
                continue
            literal.start = position
            self.scan(text, size, &literal)
            position = literal.end + 1
            following = skip_blanks(text, size, position)
            if following < size and text[following] == b":":
                position = skip_blanks(text, size, following + 1)
                if literal.found & NUL_ESCAPE:
                    parts = [] if parts is None else parts
                    copied = drop_nuls(parts, raw, copied, &literal)
                # An object at depth 19 has its keys checked, though its members are at depth 20.
                if depth <= DEPTH_LIMIT and self.is_sensitive_key(raw, &literal):
                    parts = [] if parts is None else parts
                    parts.append(raw[copied:position])
                    parts.append(b'"[REDACTED]"')
                    position = copied = self.skip_value(text, size, position)
                elif is_sha256(raw, &literal):
                    named_sha256 = position
            elif depth < DEPTH_LIMIT and self.is_secret(raw, &literal, literal.start - 1 == named_sha256):
                parts = [] if parts is None else parts
                parts.append(raw[copied:literal.start])
                parts.append(b"[REDACTED]")
                copied = literal.end
            elif literal.found & NUL_ESCAPE:
                parts = [] if parts is None else parts
                copied = drop_nuls(parts, raw, copied, &literal)
        if parts is None:
            return raw
        parts.append(raw[copied:])
        return b"".join(parts)

    cdef void scan(self, const unsigned char* text, Py_ssize_t size, Literal* literal) noexcept:
        """Fills ``end`` (of the closing quote) and what is found in the string that starts at ``start``."""
        cdef Py_ssize_t position = literal.start
        cdef Py_ssize_t short_escapes = 0
        cdef unsigned int found = 0
        cdef unsigned char class_
        while position < size:
            class_ = self.classes[text[position]]
            if not class_ & DELIMITER:
                found |= class_
                position += 1
            elif text[position] == b'"':
                break
            elif position + 1 < size and text[position + 1] == b"u":
                found |= UNICODE_ESCAPE
                if position + 6 <= size and memcmp(text + position + 2, b"0000", 4) == 0:
                    found |= NUL_ESCAPE
                position += 6
            else:
                found |= SHORT_ESCAPE
                if position + 1 < size and text[position + 1] != b"/":
                    found |= NOT_OPAQUE
                short_escapes += 1
                position += 2
        literal.end = min(position, size)
        literal.short_escapes = short_escapes
        literal.found = found

    cdef Py_ssize_t skip_value(self, const unsigned char* text, Py_ssize_t size, Py_ssize_t position) noexcept:
        """The position behind the value that begins at ``position``."""
        cdef Py_ssize_t nesting = 0
        cdef unsigned char byte
        cdef Literal literal
        while position < size:
            byte = text[position]
            if byte == b'"':
                literal.start = position + 1
                self.scan(text, size, &literal)
                position = min(literal.end + 1, size)
            elif byte == b"{" or byte == b"[":
                nesting += 1
                position += 1
                continue
            elif byte == b"}" or byte == b"]":
                if nesting == 0:
                    return position
                nesting -= 1
                position += 1
            elif nesting == 0 and (byte == b"," or is_blank(byte)):
                return position
            else:
                position += 1
                continue
            if nesting == 0:
                return position
        return position

    cdef bint is_sensitive_key(self, bytes raw, Literal* key) except -1:
        """The key rule: the folded key contains one of the words."""
        cdef const unsigned char* text = <const unsigned char*>PyBytes_AS_STRING(raw) + key.start
        cdef Py_ssize_t length = key.end - key.start
        cdef Py_ssize_t index, offset
        cdef unsigned char first
        cdef int word
        cdef str name
        if key.found & (NOT_ASCII | SHORT_ESCAPE | UNICODE_ESCAPE):
            name = decoded(raw, key).lower().replace("-", "_")
            return any(word in name for word in self.words)
        for index in range(length):
            first = self.folded[text[index]]
            # At the last character this looks at the closing quote (or at the NUL behind every bytes object).
            if not self.second_letters[first] & (<uint32_t>1 << (self.folded[text[index + 1]] & 31)):
                continue
            for word in range(self.buckets[first], self.buckets[first + 1]):
                if self.table[word].length > length - index:
                    continue
                offset = 1
                while offset < self.table[word].length and (
                    self.folded[text[index + offset]] == self.table[word].text[offset]
                ):
                    offset += 1
                if offset == self.table[word].length:
                    return True
        return False

    cdef bint is_secret(self, bytes raw, Literal* value, bint named_sha256) except -1:
        """The value rule, on the literal where it can tell and on the decoded text where it cannot."""
        cdef const unsigned char* text = <const unsigned char*>PyBytes_AS_STRING(raw) + value.start
        cdef Py_ssize_t length = value.end - value.start
        cdef Py_ssize_t index, dots = 0
        if value.found & UNICODE_ESCAPE:
            return is_secret_text(decoded(raw, value), named_sha256)
        # A short escape begins with a backslash and can be no part of a marker; it stands for one byte.
        if starts_with_scheme(text, length, b"bearer ", 7) or starts_with_scheme(text, length, b"basic ", 6):
            return True
        if (
            value.found & DASH
            and contains(text, length, b"-----BEGIN", 10)
            and contains(text, length, b"PRIVATE KEY-----", 16)
        ):
            return True
        if length - value.short_escapes < SHORTEST_OPAQUE:
            return False
        if value.found & DOT and length - value.short_escapes >= SHORTEST_JWT and memcmp(text, b"eyJ", 3) == 0:
            for index in range(length):
                dots += text[index] == b"."
            if dots == 2:
                return True
        if value.found & NOT_OPAQUE:
            return False
        if value.found & NOT_ASCII:
            return is_secret_text(decoded(raw, value), named_sha256)
        return not (named_sha256 and length == SHA256_DIGITS and not value.found & (NOT_HEXADECIMAL | SHORT_ESCAPE))


cdef bint is_sha256(bytes raw, Literal* key) except -1:
    if key.found & (SHORT_ESCAPE | UNICODE_ESCAPE):
        return decoded(raw, key) == "sha256"
    return key.end - key.start == 6 and memcmp(PyBytes_AS_STRING(raw) + key.start, b"sha256", 6) == 0


cdef Sanitizer BUILT_IN = Sanitizer()


def sanitize(bytes raw not None, tuple extra_keys=()):
    """`Sanitizer.sanitize` with the built-in words; who has ``extra_keys`` to use often keeps a `Sanitizer`."""
    return (Sanitizer(extra_keys) if extra_keys else BUILT_IN).redact(raw)
