# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""rules.masking.needles, compiled: the same with the same results, under the same tests."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.stdint cimport int32_t, uint8_t, uint16_t
from libc.string cimport memchr, memcmp, memcpy, memset

cdef enum:
    BUCKETS = 1024


cdef struct Entry:
    int32_t needle
    int32_t offset  # of the block in it
    int32_t following  # entry in the same bucket, or -1


cdef inline uint16_t block_at(const uint8_t* at) noexcept nogil:
    cdef uint16_t block
    memcpy(&block, at, 2)
    return block


cdef inline Py_ssize_t bucket_of(uint16_t block) noexcept nogil:
    return (block ^ block >> 6) & (BUCKETS - 1)


cdef class Needles:
    """See the twin. Blocks of two bytes are looked at so far apart that the beginning of no needle fits between two of them.

    Other searches (Wu's and Manber's, an automaton) wait with each step for what the one before has loaded; these steps do not.
    """

    quick = True

    cdef uint8_t known[8192]  # one bit for each block that a needle begins with, or has soon after
    cdef int32_t first[BUCKETS]
    cdef Entry* entries
    cdef tuple needles
    cdef Py_ssize_t step

    def __cinit__(self, needles):
        self.entries = NULL
        self.needles = tuple(needles)
        cdef Py_ssize_t window = min([255] + [len(one) for one in self.needles])
        if window < 2:
            raise ValueError("a needle has two bytes at least")
        self.step = window - 1
        memset(self.known, 0, sizeof(self.known))
        memset(self.first, 0xFF, sizeof(self.first))
        self.entries = <Entry*>PyMem_Malloc(max(1, len(self.needles)) * self.step * sizeof(Entry))
        if self.entries == NULL:
            raise MemoryError
        cdef Py_ssize_t index, offset, count = 0
        cdef bytes needle
        cdef uint16_t block
        for index in range(len(self.needles)):
            needle = self.needles[index]
            for offset in range(self.step):
                block = block_at(<const uint8_t*>PyBytes_AS_STRING(needle) + offset)
                self.known[block >> 3] |= 1 << (block & 7)
                self.entries[count] = Entry(<int32_t>index, <int32_t>offset, self.first[bucket_of(block)])
                self.first[bucket_of(block)] = <int32_t>count
                count += 1

    def __dealloc__(self):
        PyMem_Free(self.entries)

    cdef bint _is_at(self, const uint8_t* base, Py_ssize_t size, Py_ssize_t at):
        """Whether a needle has the block at `at` near its beginning, and is there."""
        cdef int32_t index = self.first[bucket_of(block_at(base + at))]
        cdef Py_ssize_t begin, length
        cdef bytes needle
        while index >= 0:
            needle = <bytes>self.needles[self.entries[index].needle]
            begin, length = at - self.entries[index].offset, PyBytes_GET_SIZE(needle)
            if begin >= 0 and begin + length <= size and memcmp(base + begin, PyBytes_AS_STRING(needle), length) == 0:
                return True
            index = self.entries[index].following
        return False

    def found_in(self, data not None):
        if type(data) is not bytes:
            data = bytes(data)
        cdef const uint8_t* base = <const uint8_t*>PyBytes_AS_STRING(data)
        cdef const uint8_t* known = self.known
        cdef Py_ssize_t last = PyBytes_GET_SIZE(data) - 1, at = 0, step = self.step
        cdef uint16_t block
        if not self.needles:
            return False
        while at < last:
            block = block_at(base + at)
            if known[block >> 3] >> (block & 7) & 1 and self._is_at(base, last + 1, at):
                return True
            at += step
        return False


def holds_byte(data not None, bytes wanted not None):
    if type(data) is not bytes:
        data = bytes(data)
    cdef Py_ssize_t index
    for index in range(PyBytes_GET_SIZE(wanted)):
        if memchr(PyBytes_AS_STRING(data), <uint8_t>wanted[index], PyBytes_GET_SIZE(data)) != NULL:
            return True
    return False
