from libc.stdint cimport uint16_t, uint32_t

cdef struct Word:
    const unsigned char* text
    Py_ssize_t length

cdef struct Literal:
    Py_ssize_t start
    Py_ssize_t end
    Py_ssize_t short_escapes
    unsigned int found

cdef class Sanitizer:
    cdef readonly tuple words
    cdef tuple encoded
    cdef Word* table
    cdef uint16_t buckets[257]
    cdef uint32_t second_letters[256]
    cdef unsigned char folded[256]
    cdef unsigned char classes[256]

    cdef int fill_words(self) except -1
    cdef void fill_characters(self) noexcept
    cdef bytes redact(self, bytes raw)
    cdef void scan(self, const unsigned char* text, Py_ssize_t size, Literal* literal) noexcept
    cdef Py_ssize_t skip_value(self, const unsigned char* text, Py_ssize_t size, Py_ssize_t position) noexcept
    cdef bint is_sensitive_key(self, bytes raw, Literal* key) except -1
    cdef bint is_secret(self, bytes raw, Literal* value, bint named_sha256) except -1
