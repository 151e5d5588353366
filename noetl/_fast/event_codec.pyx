# cython: freethreading_compatible=True
"""JSON texts of the hot routes, built around payloads that stay undecoded (spec 20, sections 4.2, 5.2, 6.3-6.5).

Each text is measured first and then written once into a bytes object of exactly its size.
"""

from noetl._fast.redaction import Sanitizer, sanitize  # no-cython-lint

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcpy

__all__ = (
    "Sanitizer",
    "claim_response",
    "event_meta",
    "event_response",
    "notification",
    "result_envelope",
    "sanitize",
)

cdef const char* HEXADECIMAL = "0123456789abcdef"


cdef inline char short_escape(unsigned char byte) noexcept:
    """The letter behind the backslash, or 0 where only the long form exists."""
    if byte == b'"' or byte == b"\\":
        return byte
    if byte == b"\n":
        return b"n"
    if byte == b"\r":
        return b"r"
    if byte == b"\t":
        return b"t"
    if byte == 8:
        return b"b"
    if byte == 12:
        return b"f"
    return 0


cdef inline bint needs_escape(unsigned char byte) noexcept:
    return byte < 0x20 or byte == b'"' or byte == b"\\"


cdef int measure(str text, Piece* piece) except -1:
    """Raises UnicodeEncodeError for a lone surrogate, which UTF-8 cannot hold. ``text`` must outlive the piece."""
    cdef Py_ssize_t index
    cdef unsigned char byte
    piece.text = PyUnicode_AsUTF8AndSize(text, &piece.size)
    piece.quoted = piece.size + 2
    for index in range(piece.size):
        byte = piece.text[index]
        if needs_escape(byte):
            piece.quoted += 1 if short_escape(byte) else 5
    return 0


cdef inline char* put(char* out, const char* text, Py_ssize_t size) noexcept:
    memcpy(out, text, size)
    return out + size


cdef inline char* put_raw(char* out, bytes text) noexcept:
    return put(out, PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))


cdef char* put_quoted(char* out, Piece* piece) noexcept:
    cdef Py_ssize_t index
    cdef unsigned char byte
    cdef char letter
    out[0] = b'"'
    out += 1
    if piece.quoted == piece.size + 2:
        out = put(out, piece.text, piece.size)
    else:
        for index in range(piece.size):
            byte = piece.text[index]
            if not needs_escape(byte):
                out[0] = byte
                out += 1
                continue
            letter = short_escape(byte)
            out[0] = b"\\"
            if letter:
                out[1] = letter
                out += 2
            else:
                out = put(out + 1, "u00", 3)
                out[0] = HEXADECIMAL[byte >> 4]
                out[1] = HEXADECIMAL[byte & 15]
                out += 2
    out[0] = b'"'
    return out + 1


cdef uint64_t magnitude(int64_t value) noexcept:
    return 0 - <uint64_t>value if value < 0 else <uint64_t>value


cdef int integer_size(int64_t value) noexcept:
    cdef int size = 2 if value < 0 else 1
    cdef uint64_t rest = magnitude(value) // 10
    while rest:
        rest //= 10
        size += 1
    return size


cdef char* put_integer(char* out, int64_t value, int size) noexcept:
    cdef uint64_t rest = magnitude(value)
    cdef char* digit = out + size - 1
    if value < 0:
        out[0] = b"-"
    while True:
        digit[0] = <char>(c"0" + rest % 10)
        digit -= 1
        rest //= 10
        if not rest:
            return out + size


def result_envelope(str status not None, bytes context):
    """``{"status":S,"context":<context>}``; the member is left out when ``context`` is None (spec 20, section 6.3)."""
    cdef Piece quoted_status
    measure(status, &quoted_status)
    cdef Py_ssize_t size = len(b'{"status":}') + quoted_status.quoted
    if context is not None:
        size += len(b',"context":') + PyBytes_GET_SIZE(context)
    cdef bytes result = PyBytes_FromStringAndSize(NULL, size)
    cdef char* out = put_raw(PyBytes_AS_STRING(result), b'{"status":')
    out = put_quoted(out, &quoted_status)
    if context is not None:
        out = put_raw(put_raw(out, b',"context":'), context)
    out[0] = b"}"
    return result


def event_meta(bytes meta, str worker_id, bint actionable, bint informative):
    """The stored meta: the request's, then the injected members (spec 20, section 6.4).

    An object keeps its members; a member of an injected name is overridden by standing before it, as jsonb and the
    JSON decoders read it. None and ``null`` count as ``{}``. Anything else becomes the member ``value``.
    """
    cdef bytes flags = (
        (b'"actionable":true' if actionable else b'"actionable":false')
        + (b',"informative":true' if informative else b',"informative":false')
    )
    cdef bytes body = b"" if meta is None else meta.strip(b" \n\r\t")
    cdef Py_ssize_t body_size = PyBytes_GET_SIZE(body)
    cdef bytes head
    if body == b"" or body == b"null":
        head = b"{"
        body_size = 0
    elif not body.startswith(b"{"):
        head = b'{"value":'
    elif body_size >= 2 and body[1:body_size - 1].strip(b" \n\r\t") == b"":
        head = b"{"
        body_size = 0
    else:
        head = b""
        body_size -= 1
    cdef Piece worker
    cdef Py_ssize_t size = len(head) + body_size + (body_size > 0) + PyBytes_GET_SIZE(flags) + 1
    if worker_id is not None:
        measure(worker_id, &worker)
        size += len(b',"worker_id":') + worker.quoted
    cdef bytes result = PyBytes_FromStringAndSize(NULL, size)
    cdef char* out = put_raw(PyBytes_AS_STRING(result), head)
    if body_size:
        out = put(out, PyBytes_AS_STRING(body), body_size)
        out[0] = b","
        out += 1
    out = put_raw(out, flags)
    if worker_id is not None:
        out = put_quoted(put_raw(out, b',"worker_id":'), &worker)
    out[0] = b"}"
    return result


def event_response(int64_t event_id):
    """``{"status":"ok","event_id":N,"commands_generated":0}``: the answer to an ingested event (spec 20, 6.5)."""
    cdef int digits = integer_size(event_id)
    cdef bytes result = PyBytes_FromStringAndSize(
        NULL, len(b'{"status":"ok","event_id":') + digits + len(b',"commands_generated":0}')
    )
    cdef char* out = put_raw(PyBytes_AS_STRING(result), b'{"status":"ok","event_id":')
    put_raw(put_integer(out, event_id, digits), b',"commands_generated":0}')
    return result


def claim_response(
    int64_t event_id, int64_t execution_id, str step not None, str tool_kind not None, bytes context, bytes meta
):
    """The answer to a successful claim (spec 20, section 5.2); None for ``context`` or ``meta`` is ``null``."""
    cdef Piece node, action
    cdef int event_digits = integer_size(event_id)
    cdef int execution_digits = integer_size(execution_id)
    cdef bytes context_text = b"null" if context is None else context
    cdef bytes meta_text = b"null" if meta is None else meta
    measure(step, &node)
    measure(tool_kind, &action)
    cdef bytes result = PyBytes_FromStringAndSize(
        NULL,
        len(b'{"status":"ok","event_id":,"execution_id":,"node_id":,"node_name":,"action":,"context":,"meta":}')
        + event_digits + execution_digits + 2 * node.quoted + action.quoted
        + PyBytes_GET_SIZE(context_text) + PyBytes_GET_SIZE(meta_text)
    )
    cdef char* out = put_raw(PyBytes_AS_STRING(result), b'{"status":"ok","event_id":')
    out = put_integer(out, event_id, event_digits)
    out = put_integer(put_raw(out, b',"execution_id":'), execution_id, execution_digits)
    out = put_quoted(put_raw(out, b',"node_id":'), &node)
    out = put_quoted(put_raw(out, b',"node_name":'), &node)
    out = put_quoted(put_raw(out, b',"action":'), &action)
    out = put_raw(put_raw(out, b',"context":'), context_text)
    out = put_raw(put_raw(out, b',"meta":'), meta_text)
    out[0] = b"}"
    return result


def notification(
    int64_t execution_id, int64_t event_id, str command_id not None, str step not None, str server_url not None
):
    """The NATS payload that announces a command (spec 20, section 4.2); ids are JSON integers."""
    cdef Piece command, node, server
    cdef int execution_digits = integer_size(execution_id)
    cdef int event_digits = integer_size(event_id)
    measure(command_id, &command)
    measure(step, &node)
    measure(server_url, &server)
    cdef bytes result = PyBytes_FromStringAndSize(
        NULL,
        len(b'{"command_id":,"event_id":,"execution_id":,"server_url":,"step":}')
        + execution_digits + event_digits + command.quoted + node.quoted + server.quoted
    )
    cdef char* out = put_quoted(put_raw(PyBytes_AS_STRING(result), b'{"command_id":'), &command)
    out = put_integer(put_raw(out, b',"event_id":'), event_id, event_digits)
    out = put_integer(put_raw(out, b',"execution_id":'), execution_id, execution_digits)
    out = put_quoted(put_raw(out, b',"server_url":'), &server)
    out = put_quoted(put_raw(out, b',"step":'), &node)
    out[0] = b"}"
    return result
