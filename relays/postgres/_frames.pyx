# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""relays.postgres.rows, compiled: the same functions with the same results and errors, under the same tests.

Built where setuptools finds Cython and a C compiler; without it the twin in Python is used.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t
from libc.string cimport memcpy

from relays.postgres.rows import Ending
from relays.wire import RemoteProtocolError

cdef enum:
    DATA_ROW = 0x44


cdef inline int32_t read32(const uint8_t* at) noexcept nogil:
    return <int32_t>((<uint32_t>at[0] << 24) | (<uint32_t>at[1] << 16) | (<uint32_t>at[2] << 8) | <uint32_t>at[3])


cdef inline void write32(uint8_t* at, uint32_t value) noexcept nogil:
    at[0] = value >> 24
    at[1] = (value >> 16) & 0xFF
    at[2] = (value >> 8) & 0xFF
    at[3] = value & 0xFF


cdef Py_ssize_t complete(const uint8_t* data, Py_ssize_t size, Py_ssize_t at, int kind, Py_ssize_t* rows) except -1:
    """Where the complete messages of this kind end."""
    cdef Py_ssize_t length
    rows[0] = 0
    while at + 5 <= size and data[at] == kind:
        length = read32(data + at + 1)
        if length < 4:
            raise RemoteProtocolError("a message whose length is less than that of its own length field")
        if at + 1 + length > size:
            break
        at += 1 + length
        rows[0] += 1
    return at


cdef inline Py_ssize_t opened(const uint8_t* data, Py_ssize_t at, Py_ssize_t columns) except -1:
    """Where the row at `at` ends."""
    cdef Py_ssize_t following = at + 1 + read32(data + at + 1)
    if following - at < 7 or (<Py_ssize_t>data[at + 5] << 8 | data[at + 6]) != columns:
        raise RemoteProtocolError("a row with another number of columns than its description")
    return following


cdef inline Py_ssize_t value_length(const uint8_t* data, Py_ssize_t position, Py_ssize_t end) except -2:
    """The length of the value whose length field is at `position`; -1 is NULL."""
    cdef Py_ssize_t length
    if position + 4 > end:
        raise RemoteProtocolError("a row that ends inside of a column")
    length = read32(data + position)
    if length < -1 or position + 4 + length > end:
        raise RemoteProtocolError("a column that is longer than its row")
    return length


def skip_rows(bytes data not None, Py_ssize_t start=0, int kind=0x44):
    cdef Py_ssize_t rows = 0
    cdef Py_ssize_t end = complete(<const uint8_t*>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), start, kind, &rows)
    return end, rows


def collect_values(bytes data not None, Py_ssize_t start, Py_ssize_t columns, wanted):
    cdef const uint8_t* base = <const uint8_t*>PyBytes_AS_STRING(data)
    cdef Py_ssize_t rows = 0
    cdef Py_ssize_t stop = complete(base, PyBytes_GET_SIZE(data), start, DATA_ROW, &rows)
    cdef Py_ssize_t at = start, position, following, length, index
    cdef Py_ssize_t last = max(wanted, default=-1)
    cdef bytearray chosen = bytearray(last + 1)
    cdef list found = []
    for index in wanted:
        chosen[index] = 1
    cdef const uint8_t* flags = chosen
    while at < stop:
        following = opened(base, at, columns)
        position = at + 7
        for index in range(last + 1):
            length = value_length(base, position, following)
            position += 4
            if length >= 0:
                if flags[index]:
                    found.append((index, PyBytes_FromStringAndSize(<const char*>base + position, length)))
                position += length
        at = following
    return stop, found


cdef class _Output:
    """A buffer that grows."""

    cdef uint8_t* data
    cdef Py_ssize_t size, room

    def __cinit__(self, Py_ssize_t room):
        self.room = room if room > 64 else 64
        self.size = 0
        self.data = <uint8_t*>PyMem_Malloc(self.room)
        if self.data == NULL:
            raise MemoryError

    def __dealloc__(self):
        PyMem_Free(self.data)

    cdef int add(self, const uint8_t* source, Py_ssize_t count) except -1:
        cdef uint8_t* larger
        if self.size + count > self.room:
            larger = <uint8_t*>PyMem_Realloc(self.data, (self.size + count) * 2)
            if larger == NULL:
                raise MemoryError
            self.data = larger
            self.room = (self.size + count) * 2
        memcpy(self.data + self.size, source, count)
        self.size += count
        return 0


cdef bint is_ascii(const uint8_t* data, Py_ssize_t size) noexcept nogil:
    cdef Py_ssize_t index
    cdef uint8_t seen = 0
    for index in range(size):
        seen |= data[index]
    return seen < 128


def mask_rows(bytes data not None, Py_ssize_t start, Py_ssize_t columns, actions, tallies):
    cdef const uint8_t* base = <const uint8_t*>PyBytes_AS_STRING(data)
    cdef Py_ssize_t rows = 0
    cdef Py_ssize_t stop = complete(base, PyBytes_GET_SIZE(data), start, DATA_ROW, &rows)
    cdef list acting = list(actions)
    cdef Py_ssize_t last = len(acting) - 1
    while last >= 0 and acting[last] is None:
        last -= 1
    cdef Py_ssize_t at = start, position, following, length, index, kept, row
    cdef object action, value
    cdef Py_ssize_t tail
    cdef bytes constant
    cdef uint8_t field[4]
    cdef int64_t* counts = <int64_t*>PyMem_Malloc((2 * last + 4) * sizeof(int64_t))
    if counts == NULL:
        raise MemoryError
    cdef int64_t* keeps = counts + last + 1  # of an Ending, else -1
    cdef list hidden = [action.hidden if type(action) is Ending else b"" for action in acting]
    for index in range(last + 1):
        counts[index] = 0
        keeps[index] = acting[index].keep if type(acting[index]) is Ending else -1
    cdef _Output out = _Output((stop - start) + ((stop - start) >> 2))
    try:
        while at < stop:
            following = opened(base, at, columns)
            row = out.size
            kept = at
            position = at + 7
            for index in range(last + 1):
                length = value_length(base, position, following)
                action = acting[index]
                if length >= 0 and action is not None:
                    out.add(base + kept, position - kept)
                    if type(action) is bytes:
                        constant = action
                        out.add(<const uint8_t*>PyBytes_AS_STRING(constant), PyBytes_GET_SIZE(constant))
                    elif keeps[index] >= 0 and is_ascii(base + position + 4, length):
                        constant = hidden[index]
                        tail = keeps[index] if keeps[index] and length >= 2 * keeps[index] else 0
                        write32(field, <uint32_t>(PyBytes_GET_SIZE(constant) + tail))
                        out.add(field, 4)
                        out.add(<const uint8_t*>PyBytes_AS_STRING(constant), PyBytes_GET_SIZE(constant))
                        out.add(base + position + 4 + length - tail, tail)
                    else:
                        value = action(PyBytes_FromStringAndSize(<const char*>base + position + 4, length))
                        if value is None:
                            write32(field, 0xFFFFFFFF)
                            out.add(field, 4)
                        else:
                            constant = value
                            write32(field, <uint32_t>PyBytes_GET_SIZE(constant))
                            out.add(field, 4)
                            out.add(<const uint8_t*>PyBytes_AS_STRING(constant), PyBytes_GET_SIZE(constant))
                    counts[index] += 1
                    position += 4 + length
                    kept = position
                else:
                    position += 4 + (length if length > 0 else 0)
            out.add(base + kept, following - kept)
            write32(out.data + row + 1, <uint32_t>(out.size - row - 1))
            at = following
        for index in range(last + 1):
            if counts[index]:
                tallies[index] += counts[index]
    finally:
        PyMem_Free(counts)
    return PyBytes_FromStringAndSize(<const char*>out.data, out.size), stop
