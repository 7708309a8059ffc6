# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""rules.masking.needles, compiled: the same with the same results, under the same tests."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.stdint cimport uint8_t
from libc.string cimport memchr, memcmp


cdef class Needles:
    """See the twin. The search is Wu's and Manber's (1994), with blocks of two bytes."""

    cdef uint8_t* shift
    cdef tuple needles
    cdef Py_ssize_t window

    def __cinit__(self):
        self.shift = NULL

    def __init__(self, needles):
        cdef Py_ssize_t at, block, index
        cdef bytes needle
        self.needles = tuple(needles)
        self.window = min([255] + [len(one) for one in self.needles])
        if self.window < 2:
            raise ValueError("a needle has two bytes at least")
        if not self.needles:
            return
        self.shift = <uint8_t*>PyMem_Malloc(65536)
        if self.shift == NULL:
            raise MemoryError
        for index in range(65536):
            self.shift[index] = <uint8_t>(self.window - 1)
        for needle in self.needles:
            for at in range(1, self.window):
                block = <uint8_t>needle[at - 1] << 8 | <uint8_t>needle[at]
                if self.window - 1 - at < self.shift[block]:
                    self.shift[block] = <uint8_t>(self.window - 1 - at)

    def __dealloc__(self):
        PyMem_Free(self.shift)

    def found_in(self, data not None):
        if type(data) is not bytes:
            data = bytes(data)
        cdef const uint8_t* base = <const uint8_t*>PyBytes_AS_STRING(data)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data), at = self.window - 1, begin, length, skip
        cdef bytes needle
        if not self.needles:
            return False
        while at < size:
            skip = self.shift[<Py_ssize_t>base[at - 1] << 8 | base[at]]
            if skip:
                at += skip
                continue
            begin = at - self.window + 1
            for needle in self.needles:
                length = PyBytes_GET_SIZE(needle)
                if begin + length <= size and memcmp(base + begin, PyBytes_AS_STRING(needle), length) == 0:
                    return True
            at += 1
        return False


def holds_byte(data not None, bytes wanted not None):
    if type(data) is not bytes:
        data = bytes(data)
    cdef Py_ssize_t index
    for index in range(PyBytes_GET_SIZE(wanted)):
        if memchr(PyBytes_AS_STRING(data), <uint8_t>wanted[index], PyBytes_GET_SIZE(data)) != NULL:
            return True
    return False
