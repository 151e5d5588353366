# cython: freethreading_compatible=True
"""How deep a JSON text nests, without decoding it (spec 10, section 2.4)."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE


cdef Py_ssize_t deepest(const unsigned char* text, Py_ssize_t size) noexcept nogil:
    cdef Py_ssize_t position = 0
    cdef Py_ssize_t depth = 0
    cdef Py_ssize_t found = 0
    cdef unsigned char byte
    while position < size:
        byte = text[position]
        position += 1
        if byte == b'"':
            while position < size and text[position] != b'"':
                position += 2 if text[position] == b"\\" else 1
            position += 1
        elif byte == b"{" or byte == b"[":
            depth += 1
            if depth > found:
                found = depth
        elif byte == b"}" or byte == b"]":
            depth -= 1
    return found


def depth_of(bytes text not None):
    """Nesting depth of a JSON text: 0 for a scalar, 1 for ``{}``; brackets inside strings do not count."""
    return deepest(<const unsigned char*>PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))
