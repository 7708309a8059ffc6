# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""relays.ssh.gcm, compiled: the same classes with the same results and errors, under the same tests."""

from cpython.buffer cimport PyBUF_READ, PyBUF_SIMPLE, PyBUF_WRITE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.string cimport memcpy

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from relays.wire import RemoteProtocolError

cdef enum:
    BLOCK = 16
    TAG = 16
    NONCE = 12
    LEAST_PADDING = 4
    SPARE = 2 * BLOCK  # the longest padding, and more


cdef inline uint32_t read32(const uint8_t* at) noexcept nogil:
    return <uint32_t>at[0] << 24 | <uint32_t>at[1] << 16 | <uint32_t>at[2] << 8 | at[3]


cdef inline void write32(uint8_t* at, uint32_t value) noexcept nogil:
    at[0], at[1], at[2], at[3] = value >> 24, value >> 16 & 0xFF, value >> 8 & 0xFF, value & 0xFF


cdef class Nonces:
    """A fixed part of 4 bytes and a counter of 8."""

    cdef uint8_t next[NONCE]

    def __init__(self, bytes iv):
        if len(iv) < NONCE:
            raise ValueError("an initial vector of less than 12 bytes")
        memcpy(self.next, PyBytes_AS_STRING(iv), NONCE)

    cdef inline bytes now(self):
        return PyBytes_FromStringAndSize(<char*>self.next, NONCE)

    cdef inline void used(self) noexcept:
        cdef int at = NONCE - 1
        while at > 3:
            self.next[at] = self.next[at] + 1 & 0xFF
            if self.next[at]:
                return
            at -= 1


cdef class GcmSeal:
    """relays.ssh.gcm.GcmSeal"""

    cdef public uint32_t sequence
    cdef object _encrypt_into
    cdef Nonces _nonces
    cdef bytes _padding
    cdef uint8_t* _plain
    cdef Py_ssize_t _room

    def __cinit__(self):
        self._plain = NULL
        self._room = 0

    def __init__(self, bytes key, bytes iv):
        self.sequence = 0
        self._encrypt_into = AESGCM(key).encrypt_into
        self._nonces = Nonces(iv)
        self._padding = secrets.token_bytes(SPARE)

    def __dealloc__(self):
        PyMem_Free(self._plain)

    cdef int _has_room(self, Py_ssize_t size) except -1:
        if size > self._room:
            PyMem_Free(self._plain)
            self._room = 0
            self._plain = <uint8_t*>PyMem_Malloc(size)
            if self._plain == NULL:
                raise MemoryError
            self._room = size
        return 0

    def seal(self, int number, tuple pieces):
        cdef Py_ssize_t size = 2, at = 2, padding, length
        cdef Py_buffer buffer
        cdef bytes packet
        cdef uint8_t* out
        for piece in pieces:
            size += len(piece)
        padding = BLOCK - size % BLOCK
        if padding < LEAST_PADDING:
            padding += BLOCK
        length = size + padding
        self._has_room(length)
        self._plain[0], self._plain[1] = padding, number
        for piece in pieces:
            PyObject_GetBuffer(piece, &buffer, PyBUF_SIMPLE)
            if at + buffer.len > size:
                PyBuffer_Release(&buffer)
                raise ValueError("a piece of another length than it said")
            memcpy(self._plain + at, buffer.buf, buffer.len)
            at += buffer.len
            PyBuffer_Release(&buffer)
        memcpy(self._plain + at, PyBytes_AS_STRING(self._padding), padding)
        packet = PyBytes_FromStringAndSize(NULL, 4 + length + TAG)
        out = <uint8_t*>PyBytes_AS_STRING(packet)
        write32(out, length)
        self._encrypt_into(
            self._nonces.now(),
            PyMemoryView_FromMemory(<char*>self._plain, length, PyBUF_READ),
            PyBytes_FromStringAndSize(<char*>out, 4),
            PyMemoryView_FromMemory(<char*>out + 4, length + TAG, PyBUF_WRITE),
        )
        self._nonces.used()
        self.sequence += 1
        return packet


cdef class GcmOpen:
    """relays.ssh.gcm.GcmOpen"""

    cdef public uint32_t sequence
    cdef object _decrypt
    cdef Nonces _nonces

    def __init__(self, bytes key, bytes iv):
        self.sequence = 0
        self._decrypt = AESGCM(key).decrypt
        self._nonces = Nonces(iv)

    def missing(self, bytearray data):
        cdef Py_ssize_t size = len(data), rest
        if size < 4:
            return 4 - size
        rest = <Py_ssize_t>read32(<uint8_t*><char*>data) + 4 + TAG - size
        return rest if rest > 1 else 1

    def open(self, data, Py_ssize_t at, Py_ssize_t limit):
        cdef Py_buffer buffer
        cdef bytes packet
        cdef Py_ssize_t following = 0
        PyObject_GetBuffer(data, &buffer, PyBUF_SIMPLE)
        try:
            packet = self._opened(<uint8_t*>buffer.buf, buffer.len, at, limit, &following)
        finally:
            PyBuffer_Release(&buffer)
        return None if packet is None else (packet, following)

    cdef bytes _opened(self, uint8_t* data, Py_ssize_t size, Py_ssize_t at, Py_ssize_t limit, Py_ssize_t* following):
        cdef Py_ssize_t length
        cdef uint8_t padding
        cdef bytes packet
        if size - at < 4:
            return None
        length = read32(data + at)
        if not 8 <= length <= limit + 4 or length % BLOCK:
            raise RemoteProtocolError("a packet of a length that none may have")
        following[0] = at + 4 + length + TAG
        if size < following[0]:
            return None
        try:
            packet = self._decrypt(
                self._nonces.now(),
                PyMemoryView_FromMemory(<char*>data + at + 4, length + TAG, PyBUF_READ),
                PyBytes_FromStringAndSize(<char*>data + at, 4),
            )
        except InvalidTag:
            raise RemoteProtocolError("a packet that was altered on its way") from None
        self._nonces.used()
        self.sequence += 1
        padding = <uint8_t>PyBytes_AS_STRING(packet)[0]
        if not LEAST_PADDING <= padding <= PyBytes_GET_SIZE(packet) - 2:
            raise RemoteProtocolError("a packet with a padding that none may have")
        return packet
