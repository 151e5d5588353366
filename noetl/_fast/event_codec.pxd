from libc.stdint cimport int64_t

# A piece of text that lives elsewhere; `quoted` is its size as a JSON string, quotes included.
cdef struct Piece:
    const char* text
    Py_ssize_t size
    Py_ssize_t quoted

cdef int measure(str text, Piece* piece) except -1
cdef char* put_quoted(char* out, Piece* piece) noexcept
cdef int integer_size(int64_t value) noexcept
cdef char* put_integer(char* out, int64_t value, int size) noexcept
