# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""relays.postgres.fast_path.core, compiled: the same classes with the same results, under the same tests.

Built where setuptools finds Cython and a C compiler; without it the twin in Python is used.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_GetItem
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.ref cimport PyObject
from libc.stdint cimport int32_t, uint8_t, uint32_t
from libc.string cimport memchr, memcmp, memcpy
from posix.time cimport CLOCK_MONOTONIC, CLOCK_REALTIME, clock_gettime, timespec

from relays.postgres.fast_path.core import CUT, LONGEST_TEXT, MOST_ENTRIES, MOST_PENDING, RECORD_BYTES, SHOWN_TEXT, readable

cdef enum:
    SPACE_FREE = 9  # digits of a run that fits an int4

cdef Py_ssize_t longest_text = LONGEST_TEXT, most_entries = MOST_ENTRIES, most_pending = MOST_PENDING, record_bytes = RECORD_BYTES
cdef Py_ssize_t shown_text = SHOWN_TEXT
cdef bytes cut = CUT
cdef bytes describe_portal = b"D\0\0\0\x06P\0"

cdef uint8_t before_run[256]
cdef uint8_t after_run[256]
for _index in range(256):
    before_run[_index] = _index in b" =<>(,\t\n"
    after_run[_index] = _index in b" ;),\t\n"


cdef inline int32_t read32(const uint8_t* at) noexcept nogil:
    return <int32_t>((<uint32_t>at[0] << 24) | (<uint32_t>at[1] << 16) | (<uint32_t>at[2] << 8) | <uint32_t>at[3])


cdef inline int read16(const uint8_t* at) noexcept nogil:
    return (<int>at[0] << 8) | at[1]


cdef Py_ssize_t formats_end(const uint8_t* base, Py_ssize_t at, Py_ssize_t stop, Py_ssize_t* count) noexcept nogil:
    """Where the format codes at `at` end, or -1."""
    cdef Py_ssize_t index
    if at + 2 > stop:
        return -1
    count[0] = read16(base + at)
    at += 2
    if at + 2 * count[0] > stop:
        return -1
    for index in range(count[0]):
        if read16(base + at + 2 * index) > 1:
            return -1
    return at + 2 * count[0]


cdef bint any_binary(const uint8_t* base, Py_ssize_t at, Py_ssize_t stop) noexcept nogil:
    """Whether any of the format codes at `at`, as far as they are there, is not that of the text format."""
    cdef Py_ssize_t index
    if at + 2 > stop:
        return False
    for index in range(2 * read16(base + at)):
        if at + 2 + index < stop and base[at + 2 + index]:
            return True
    return False


cdef inline bint is_digit(uint8_t byte) noexcept nogil:
    return 48 <= byte <= 57


cdef inline double monotonic() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec + now.tv_nsec * 1e-9


cdef class Buffer:
    """Bytes that are added to, and cut back."""

    cdef uint8_t* data
    cdef Py_ssize_t size, room

    def __cinit__(self):
        self.data = NULL
        self.size = self.room = 0

    def __dealloc__(self):
        PyMem_Free(self.data)

    cdef uint8_t* reserve(self, Py_ssize_t count) except NULL:
        cdef uint8_t* larger
        cdef Py_ssize_t room
        if self.size + count > self.room or self.data == NULL:
            room = (self.size + count) * 2 + 64
            larger = <uint8_t*>PyMem_Realloc(self.data, room)
            if larger == NULL:
                raise MemoryError
            self.data, self.room = larger, room
        return self.data + self.size

    cdef int add(self, const void* source, Py_ssize_t count) except -1:
        memcpy(self.reserve(count), source, count)
        self.size += count
        return 0

    cdef int add_byte(self, uint8_t byte) except -1:
        self.reserve(1)[0] = byte
        self.size += 1
        return 0

    cdef int add_number(self, Py_ssize_t number) except -1:
        cdef uint8_t digits[24]
        cdef int at = 24
        while True:
            at -= 1
            digits[at] = 48 + number % 10
            number //= 10
            if not number:
                break
        return self.add(digits + at, 24 - at)

    cdef bytes take(self):
        cdef bytes taken = PyBytes_FromStringAndSize(<const char*>self.data, self.size) if self.size else b""
        self.release()
        return taken

    cdef void release(self) noexcept:
        """Idle sessions keep nothing."""
        PyMem_Free(self.data)
        self.data = NULL
        self.size = self.room = 0


cdef inline int digits_of(Py_ssize_t number) noexcept nogil:
    cdef int count = 1
    while number >= 10:
        number //= 10
        count += 1
    return count


cdef class Entry:
    """See the twin."""

    cdef public object learned, show
    cdef public bytes text
    cdef public bytes description
    cdef public bint exact
    cdef public Py_ssize_t generation, count

    def __init__(self, learned, bytes text not None, description=None, exact=False, show=None):
        self.learned = learned
        self.show = show
        self.text = text
        self.description = description
        self.exact = exact
        self.generation = self.count = 0


cdef class Core:
    """See the twin."""

    cdef public bint open
    cdef public int status
    cdef public Py_ssize_t transactions, rows, bytes, messages, generation
    cdef public bint ended, bound
    cdef public object last
    cdef public double until, first
    cdef readonly list pending
    cdef dict _statements, _skeletons, _entries
    cdef list _counted
    cdef object _renew, _full, _suspects, _outlets, _otherwise_client, _otherwise_server, _failed
    cdef Py_ssize_t _answered, _head
    cdef Buffer _record, _shown, _key

    def __init__(self, dict statements not None, renew, full, suspects=None, Py_ssize_t head=0):
        self._statements = statements
        self._renew, self._full, self._suspects, self._head = renew, full, suspects, head
        self._skeletons, self._entries, self._counted, self.pending = {}, {}, [], []
        self._answered = 0
        self._record, self._shown, self._key = Buffer(), Buffer(), Buffer()
        self.open = self.ended = self.bound = False
        self.status = 73
        self.transactions = self.rows = self.bytes = self.messages = self.generation = 0
        self.until = self.first = 0.0
        self.last = None

    # --- in the place of the legs

    def stand_between(self, outlets, client, server, failed):
        self._outlets, self._otherwise_client, self._otherwise_server, self._failed = outlets, client, server, failed

    def from_client(self, data):
        try:
            out = self.client(data) if self.open else None
            if out is None:
                self._otherwise_client(data)
            else:
                self._outlets.to_server(out)
        except Exception as error:
            self._failed(error)

    def from_server(self, data):
        try:
            out = self.server(data) if self.open else None
            if out is None:
                self._otherwise_server(data)
            else:
                self._outlets.to_client(out)
        except Exception as error:
            self._failed(error)

    # --- what is known

    def forget(self):
        self.generation += 1
        self._skeletons.clear()
        self._entries.clear()

    def admit(self, Entry entry not None):
        entry.generation = self.generation
        return entry

    def learn(self, bytes text not None, bytes free not None, Entry entry not None):
        if len(self._entries) >= most_entries:
            self._skeletons.clear()
            self._entries.clear()
        cdef const uint8_t* base = <const uint8_t*>PyBytes_AS_STRING(text)
        cdef bytes skeleton = self._blanked(base, PyBytes_GET_SIZE(text), NULL, 0)
        self._skeletons[skeleton] = free
        entry.generation = self.generation
        key = self._blanked(base, PyBytes_GET_SIZE(text), <const uint8_t*>PyBytes_AS_STRING(free), PyBytes_GET_SIZE(free))
        self._entries[key] = entry

    cdef bytes _blanked(self, const uint8_t* text, Py_ssize_t size, const uint8_t* free, Py_ssize_t runs):
        """The text with a NUL in the place of each run of digits, or of those that are free. None for more runs than `free` has."""
        cdef uint8_t* out
        cdef Py_ssize_t at = 0, end, run = 0, written = 0
        self._key.size = 0
        out = self._key.reserve(size)
        while at < size:
            if is_digit(text[at]) and at and before_run[text[at - 1]]:
                end = at + 1
                while end < size and is_digit(text[end]):
                    end += 1
                if end - at <= SPACE_FREE and (end == size or after_run[text[end]]):
                    if free == NULL or (run < runs and free[run] == 1):
                        out[written] = 0
                        written += 1
                        at = end
                    run += 1
                while at < end:
                    out[written] = text[at]
                    written += 1
                    at += 1
                continue
            out[written] = text[at]
            written += 1
            at += 1
        return PyBytes_FromStringAndSize(<const char*>out, written)

    cdef Entry _find(self, const uint8_t* text, Py_ssize_t size):
        cdef bytes skeleton = self._blanked(text, size, NULL, 0), free
        cdef PyObject* found = PyDict_GetItem(self._skeletons, skeleton)
        if found == NULL:
            return None
        free = <object>found
        if memchr(PyBytes_AS_STRING(free), 0, PyBytes_GET_SIZE(free)) != NULL:
            skeleton = self._blanked(text, size, <const uint8_t*>PyBytes_AS_STRING(free), PyBytes_GET_SIZE(free))
        found = PyDict_GetItem(self._entries, skeleton)
        return None if found == NULL else <Entry>found

    # --- from the client

    cpdef client(self, bytes data):
        cdef const uint8_t* base = <const uint8_t*>PyBytes_AS_STRING(data)
        cdef Py_ssize_t end = PyBytes_GET_SIZE(data), at = 0, stop, injections = 0
        cdef int length
        cdef list taken
        cdef Entry entry
        if not self.open or not end or len(self.pending) - self._answered >= most_pending:
            return None
        if monotonic() >= self.until:
            self.until = self._renew()
            if not self.open or self.until <= 0.0:
                return None
        taken = []
        while at < end:
            if at + 5 > end:
                return None
            length = read32(base + at + 1)
            stop = at + 1 + length
            if length < 4 or stop > end:
                return None
            if base[at] == 81:  # Q
                entry = self._query(base + at + 5, stop - at - 5)
                if entry is None:
                    return None
                taken.append((entry, False, False, None))
                at = stop
            elif base[at] == 66:  # B
                at = self._extended(base, at, stop, end, taken)
                if at < 0:
                    return None
                if (<tuple>taken[len(taken) - 1])[2]:
                    injections += 1
            else:
                return None
        return self._pass(data, base, end, taken, injections)

    cdef Entry _query(self, const uint8_t* text, Py_ssize_t size):
        if not 1 < size <= longest_text or text[size - 1] != 0 or memchr(text, 0, size - 1) != NULL:
            return None
        return self._find(text, size - 1)

    cdef Py_ssize_t _extended(self, const uint8_t* base, Py_ssize_t bind, Py_ssize_t stop, Py_ssize_t end, list taken) except -2:
        """Bind, perhaps Describe, Execute and Sync of the unnamed portal: where they end, or -1."""
        cdef const uint8_t* found = <const uint8_t*>memchr(base + bind + 6, 0, stop - bind - 6) if stop > bind + 6 else NULL
        cdef Py_ssize_t at, count, formats, index
        cdef int length
        cdef bint described = False, binary
        cdef Entry entry
        if found == NULL or base[bind + 5] != 0:
            return -1
        at = found - base
        name = PyBytes_FromStringAndSize(<const char*>base + bind + 6, at - bind - 6)
        statement = self._statements.get(name)
        if statement is None or statement.fast is None:
            return -1
        entry = statement.fast
        if entry.generation != self.generation:
            return -1
        binary = any_binary(base, at + 1, stop)
        at = formats_end(base, at + 1, stop, &formats)
        if at < 0 or at + 2 > stop or (binary and entry.show is None):
            return -1
        count = read16(base + at)
        if formats > 1 and formats != count:
            return -1
        at += 2
        for index in range(count):
            if at + 4 > stop:
                return -1
            length = read32(base + at)
            if length < -1:
                return -1
            at += 4 + (length if length > 0 else 0)
        if formats_end(base, at, stop, &count) != stop:
            return -1
        at = stop
        if at + 7 <= end and memcmp(base + at, <const char*>describe_portal, 7) == 0:
            described = True
            at += 7
        if at + 15 > end or memcmp(base + at, b"E\0\0\0\x09\0", 6) != 0 or read32(base + at + 6) < 0:
            return -1
        at += 10
        if memcmp(base + at, b"S\0\0\0\x04", 5) != 0:
            return -1
        taken.append((entry, described, not described and entry.exact, statement))
        return at + 5

    cdef bytes _pass(self, bytes data, const uint8_t* base, Py_ssize_t end, list taken, Py_ssize_t injections):
        cdef Py_ssize_t at = 0, stop
        cdef Entry entry
        cdef tuple one
        cdef Buffer out = Buffer() if injections else None
        cdef timespec now
        clock_gettime(CLOCK_REALTIME, &now)
        for one in taken:
            entry = one[0]
            stop = at + 1 + read32(base + at + 1)
            if base[at] == 81:
                self._say(True, base + at + 5, stop - at - 6, &now)
                if out is not None:
                    out.add(base + at, stop - at)
                at = stop
            else:
                if any_binary(base, <const uint8_t*>memchr(base + at + 6, 0, stop - at - 6) - base + 1, stop):
                    shown = entry.show(data[at + 5 : stop])
                    self._say(True, <const uint8_t*>PyBytes_AS_STRING(shown), PyBytes_GET_SIZE(shown), &now)
                else:
                    self._shown.size = 0
                    self._show_bind(entry, base, at)
                    self._say(True, self._shown.data, self._shown.size, &now)
                if out is not None:
                    out.add(base + at, stop - at)
                    if one[2]:
                        out.add(<const char*>describe_portal, 7)
                at = stop + (7 if one[1] else 0) + 15
                if out is not None:
                    out.add(base + stop, at - stop)
                self.bound = True
            if not entry.count:
                self._counted.append(entry)
            entry.count += 1
            self.pending.append(one)
        if self._record.size >= record_bytes:
            self._full()
        return data if out is None else out.take()

    cdef int _show_bind(self, Entry entry, const uint8_t* base, Py_ssize_t bind) except -1:
        """The statement with its values, all in text format."""
        cdef Buffer out = self._shown
        cdef Py_ssize_t at = <const uint8_t*>memchr(base + bind + 6, 0, read32(base + bind + 1)) - base + 1
        cdef int count, index, length, byte
        out.add(<const char*>entry.text, PyBytes_GET_SIZE(entry.text))
        at += 2 + 2 * read16(base + at)
        count = read16(base + at)
        at += 2
        for index in range(count):
            length = read32(base + at)
            at += 4
            out.add(b"\n-- $", 5)
            out.add_number(index + 1)
            out.add(b" = ", 3)
            if length < 0:
                out.add(b"NULL", 4)
                continue
            for byte in range(length if length < shown_text else shown_text):
                if base[at + byte] == 10:  # no value may look like another line
                    out.add(b"\\n", 2)
                else:
                    out.add_byte(base[at + byte])
            at += length
        return 0

    # --- from the server

    cpdef server(self, bytes data):
        cdef const uint8_t* base = <const uint8_t*>PyBytes_AS_STRING(data)
        cdef Py_ssize_t end = PyBytes_GET_SIZE(data), at = 0
        cdef Py_ssize_t record = self._record.size, messages = self.messages, rows = self.rows
        cdef Py_ssize_t answered = self._answered, transactions = self.transactions
        cdef double first = self.first
        cdef int status = self.status
        cdef bint ended = self.ended
        cdef Buffer out = None
        cdef timespec now
        if not end or answered >= len(self.pending) or (self._suspects is not None and self._suspects(data)):
            return None
        clock_gettime(CLOCK_REALTIME, &now)
        for one in self.pending:
            if (<tuple>one)[2]:
                out = Buffer()
                break
        while at < end and self._answered < len(self.pending):
            at = self._answer(base, at, end, <tuple>self.pending[self._answered], out, &now)
            if at < 0:
                break
            self._answered += 1
        if at != end:
            self._record.size, self.messages, self.rows, self.first = record, messages, rows, first
            self._answered, self.transactions, self.status, self.ended = answered, transactions, status, ended
            return None
        self.bytes += end
        self.last = (<tuple>self.pending[self._answered - 1])[0]
        if self._answered == len(self.pending):
            self.pending.clear()
            self._answered = 0
        elif self._answered >= 64:
            del self.pending[: self._answered]
            self._answered = 0
        return data if out is None else out.take()

    cdef Py_ssize_t _answer(self, const uint8_t* base, Py_ssize_t at, Py_ssize_t end, tuple one, Buffer out, timespec* now) except -2:
        """One whole answer, from its first message to ReadyForQuery: where it ends, or -1."""
        cdef Entry entry = one[0]
        cdef bint extended = one[3] is not None, injected = one[2], described = one[1] or injected
        cdef Py_ssize_t start = at, stop, left = self._head, size
        cdef Buffer shown = self._shown
        shown.size = 0
        if extended:
            if at + 5 > end or memcmp(base + at, b"2\0\0\0\x04", 5) != 0:
                return -1
            at += 5
        if at + 5 > end:
            return -1
        if base[at] == 84 or base[at] == 110:  # T, n
            if extended and not described:
                return -1
            size = 1 + read32(base + at + 1)
            if size < 5 or at + size > end or (base[at] == 110 and not extended):
                return -1
            if entry.exact:
                if base[at] == 110:
                    if entry.description is not None:
                        return -1
                elif entry.description is None or PyBytes_GET_SIZE(entry.description) != size or memcmp(
                    base + at, <const char*>entry.description, size
                ):
                    return -1
            if injected:
                out.add(base + start, at - start)
                start = at + size
            at += size
        elif extended and described or (not extended and entry.exact and entry.description is not None):
            return -1
        while at + 5 <= end and base[at] == 68:  # D
            size = 1 + read32(base + at + 1)
            if size < 7 or at + size > end:
                return -1
            if left:
                left = self._show_row(base + at + 5, size - 5, left)
            self.rows += 1
            at += size
        if at + 5 > end:
            return -1
        size = 1 + read32(base + at + 1)
        if size < 5 or at + size > end:
            return -1
        if base[at] == 67:  # C
            if size < 6:
                return -1
            shown.add(base + at + 5, size - 6)
        elif base[at] == 115 and extended:  # s
            shown.add(b"(suspended)", 11)
        else:
            return -1
        at += size
        if at + 6 > end or memcmp(base + at, b"Z\0\0\0\x05", 5) != 0 or (base[at + 5] != 73 and base[at + 5] != 84):
            return -1
        self.status = base[at + 5]
        at += 6
        if self.status == 73:
            self.ended = True
        if out is not None:
            out.add(base + start, at - start)
        self.transactions += 1
        self._say(False, shown.data, shown.size, now)
        return at

    cdef Py_ssize_t _show_row(self, const uint8_t* body, Py_ssize_t size, Py_ssize_t left) except -1:
        """Add one row to what is shown; how many bytes are left for more."""
        cdef Buffer shown = self._shown
        cdef Py_ssize_t at = 2, begin = shown.size, length, byte
        cdef bint first = True, plain
        while at + 4 <= size:
            length = read32(body + at)
            at += 4
            if not first:
                shown.add_byte(9)
            first = False
            if length < 0:
                shown.add(b"\\N", 2)
                continue
            if length > size - at:
                length = size - at
            plain = True
            for byte in range(length):
                if body[at + byte] == 0 or body[at + byte] > 127:
                    plain = False
                    break
            if plain:
                shown.add(body + at, length)
            else:
                value = readable(PyBytes_FromStringAndSize(<const char*>body + at, length))
                shown.add(PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value))
            at += length
        shown.add_byte(10)
        length = shown.size - begin
        if length > left:
            shown.size = begin + left
            shown.add(<const char*>cut, PyBytes_GET_SIZE(cut))
            return 0
        return left - length

    # --- what was passed

    cdef int _say(self, bint client, const uint8_t* text, Py_ssize_t size, timespec* now) except -1:
        """Add one message to the record: a tnetstring list of whether the client said it, what, and when."""
        cdef Buffer out = self._record
        cdef long seconds = now.tv_sec, micro = now.tv_nsec // 1000
        cdef int clock = digits_of(seconds) + 7, digit
        cdef uint8_t* at
        if not self.messages:
            self.first = now.tv_sec + now.tv_nsec * 1e-9
        out.add_number((7 if client else 8) + digits_of(size) + size + 2 + digits_of(clock) + clock + 2)
        out.add_byte(58)
        if client:
            out.add(b"4:true!", 7)
        else:
            out.add(b"5:false!", 8)
        out.add_number(size)
        out.add_byte(58)
        out.add(text, size)
        out.add_byte(44)
        out.add_number(clock)
        out.add_byte(58)
        out.add_number(seconds)
        out.add_byte(46)
        at = out.reserve(6)
        for digit in range(5, -1, -1):
            at[digit] = 48 + micro % 10
            micro //= 10
        out.size += 6
        out.add_byte(94)
        out.add_byte(93)
        self.messages += 1
        return 0

    def take_record(self):
        count, first = self.messages, self.first
        self.messages = 0
        self._shown.release()
        self._key.release()
        return self._record.take(), count, first

    def take_counts(self):
        cdef Entry entry
        counted, self._counted = self._counted, []
        found = []
        for entry in counted:
            found.append((entry, entry.count))
            entry.count = 0
        return found

    def take_pending(self):
        found = self.pending[self._answered :]
        self.pending.clear()
        self._answered = 0
        return found
