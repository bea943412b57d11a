"""What a killed fit had found out, kept in a file: the answer to every question that its solver asked.

SciPy's solvers hide their state, but they are deterministic. A fit that is started again asks the same questions, gets
the same answers out of the file, and so arrives where it was when it was killed; from there on it computes. A question
is a kind and a point, and how often it was asked before: formulas may be optimised meanwhile and answer differently in
the last digit. Answers that take longer to read than to compute are computed again.

The file only grows. Each record holds its length and a checksum, and a torn one at the end is cut off.
"""

from __future__ import annotations

import os
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from sym2tf.errors import FitError, FitWarning, warn
from sym2tf.fit.wording import counted

Array = np.ndarray[Any, Any]
Answer = tuple[Array, ...]
Key = tuple[bytes, int]  # digest of kind and point, times asked before

MAGIC = b"sym2tf answers 1\n"
HEAD = struct.Struct("<QI")  # length of the record, checksum of it
QUESTION = struct.Struct("<16sIB")  # digest, times asked before, number of arrays
ARRAY = struct.Struct("<8ssB")  # dtype, order of elements in memory, number of axes
ALWAYS_KEPT = 100_000  # bytes of an answer that is recorded in any case
BYTES_PER_SECOND = 2e8  # that are written and read; an answer that is computed quicker than that is not recorded
FLUSHED = 0.05  # seconds of work that may be lost
SYNCED = 2.0  # seconds of work that may be lost if not the process but the machine dies


class Journal:
    """Answers to questions, some of them from a file.

    Attributes:
        known: how many answers the file held when it was opened.
    """

    def __init__(self, path: Path) -> None:
        """Open a journal, or begin one.

        Raises:
            FitError: the file is none.
            OSError: it cannot be read or written.

        Warns:
            FitWarning: it is damaged.
        """
        self._path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        try:
            self._places = self._opened()
        except BaseException:
            os.close(self._file)
            raise
        self.known = len(self._places)
        self._asked: dict[bytes, int] = {}
        self._pending: list[bytes] = []
        self._flushed = self._synced = time.monotonic()
        self._writing = True

    def answer(self, kind: str, theta: Array, compute: Callable[[], Answer]) -> Answer:
        """What the file says, or else what `compute` does, which is then recorded."""
        digest = blake2b(kind.encode() + b"\0" + theta.tobytes(), digest_size=16).digest()
        before = self._asked.get(digest, 0)
        self._asked[digest] = before + 1
        place = self._places.get((digest, before))
        if place is not None:
            return _answer(_read(self._file, place[1], place[0]))
        began = time.monotonic()
        answer = tuple(_in_one_piece(part) for part in compute())
        now = time.monotonic()
        size = sum(part.nbytes for part in answer)
        if self._writing and (size <= ALWAYS_KEPT or size < (now - began) * BYTES_PER_SECOND):
            self._pending.append(_record(digest, before, answer))
            if now - self._flushed >= FLUSHED:
                self.flush()
        return answer

    def flush(self) -> None:
        """Hand over to the operating system what is not yet written, so that it outlives this process.

        Warns:
            FitWarning: that fails; nothing is recorded from then on.
        """
        if not self._writing:
            return
        data = memoryview(b"".join(self._pending))
        try:
            os.lseek(self._file, 0, os.SEEK_END)
            while data:
                data = data[os.write(self._file, data) :]
            now = time.monotonic()
            if now - self._synced >= SYNCED:
                os.fsync(self._file)
                self._synced = time.monotonic()
        except OSError as error:
            self._writing = False
            warn(FitWarning, f"the checkpoint is no longer kept up: {self._path} cannot be written ({error.strerror})")
        self._pending.clear()
        self._flushed = time.monotonic()

    def close(self) -> None:
        """Write the rest and close the file."""
        try:
            self.flush()
        finally:
            os.close(self._file)

    def _opened(self) -> dict[Key, tuple[int, int]]:
        """Where each answer of the file stands (offset, length); what is torn is cut off."""
        size = os.fstat(self._file).st_size
        head = os.read(self._file, len(MAGIC))
        if head != MAGIC[: len(head)]:
            raise FitError(f"{self._path} is no journal of a fit, or of another version: choose another folder")
        if len(head) < len(MAGIC):  # killed while it was begun
            os.lseek(self._file, 0, os.SEEK_SET)
            os.write(self._file, MAGIC)
            return {}
        places, end = {}, len(MAGIC)
        for key, offset, length in _records(self._file, size):
            places[key] = (offset, length)
            end = offset + length
        if end < size:
            self._say_if_damaged(end, size, len(places))
            os.ftruncate(self._file, end)
        os.lseek(self._file, end, os.SEEK_SET)
        return places

    def _say_if_damaged(self, end: int, size: int, good: int) -> None:
        """A torn record at the end is the trace of a kill; a whole one that is wrong is none."""
        if size - end < HEAD.size:
            return
        length, _ = HEAD.unpack(_read(self._file, HEAD.size, end))
        if end + HEAD.size + length <= size:
            warn(
                FitWarning,
                f"{self._path} is damaged after {counted(good, 'answer')}: the rest is computed again",
            )


def _read(file: int, length: int, offset: int) -> bytes:
    """So many bytes from there; by seeking, since Windows has no `pread`. A file that ends before gives fewer."""
    os.lseek(file, offset, os.SEEK_SET)
    parts = []
    while length > 0 and (part := os.read(file, length)):
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


def _records(file: int, size: int) -> Iterator[tuple[Key, int, int]]:
    """Key, offset and length of each record up to the first that is torn or wrong."""
    at = len(MAGIC)
    while at + HEAD.size <= size:
        length, checksum = HEAD.unpack(_read(file, HEAD.size, at))
        at += HEAD.size
        if length < QUESTION.size or at + length > size:
            return
        data = _read(file, length, at)
        if zlib.crc32(data) != checksum:
            return
        digest, before, _ = QUESTION.unpack_from(data)
        yield (digest, before), at, length
        at += length


def _in_one_piece(part: Any) -> Array:
    """An array as it will come out of the file: in C order, or in Fortran's where it was."""
    array = np.asarray(part)
    if array.dtype.hasobject:
        raise TypeError(f"an answer must be arrays of numbers, got {type(part).__name__}")
    whole = array.flags.c_contiguous or array.flags.f_contiguous
    return array if whole and array.flags.writeable else np.array(array, order="K" if whole else "C")


def _record(digest: bytes, before: int, answer: Answer) -> bytes:
    parts = [QUESTION.pack(digest, before, len(answer))]
    for array in answer:
        order = b"C" if array.flags.c_contiguous else b"F"
        parts.append(ARRAY.pack(array.dtype.str.encode(), order, array.ndim))
        parts.append(struct.pack(f"<{array.ndim}q", *array.shape))
        parts.append(array.tobytes(order=order.decode()))  # type: ignore[arg-type]
    data = b"".join(parts)
    return HEAD.pack(len(data), zlib.crc32(data)) + data


def _answer(data: bytes) -> Answer:
    *_, count = QUESTION.unpack_from(data)
    at, answer = QUESTION.size, []
    for _ in range(count):
        name, order, axes = ARRAY.unpack_from(data, at)
        dtype = np.dtype(name.rstrip(b"\0").decode())
        shape = struct.unpack_from(f"<{axes}q", data, at + ARRAY.size)
        at += ARRAY.size + 8 * axes
        elements = int(np.prod(shape, dtype=np.int64))
        flat = np.frombuffer(data, dtype, elements, at).copy()
        answer.append(flat.reshape(shape, order=order.decode()))
        at += elements * dtype.itemsize
    return tuple(answer)
