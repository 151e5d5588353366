cdef Py_ssize_t deepest(const unsigned char* text, Py_ssize_t size) noexcept nogil
