# cython: language_level=3
"""relays.straight, compiled."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE

cdef extern from "<sys/socket.h>" nogil:
    ssize_t send(int fd, const void* data, size_t size, int flags)
    int MSG_DONTWAIT, MSG_NOSIGNAL


cdef class Straight:
    """One transport's way out."""

    cdef object _write, _waiting, _is_closing
    cdef int _fd

    def __init__(self, transport, int fd):
        self._write, self._waiting, self._is_closing = transport.write, transport.get_write_buffer_size, transport.is_closing
        self._fd = fd

    def write(self, data):
        cdef ssize_t sent = -1
        # a transport that closes may have given its descriptor back, and another connection may have it by now
        if type(data) is bytes and not self._is_closing() and self._waiting() == 0:
            sent = send(self._fd, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), MSG_DONTWAIT | MSG_NOSIGNAL)
            if sent == PyBytes_GET_SIZE(data):
                return
        self._write(data[sent:] if sent > 0 else data)
