"""A record, such as a fit, in a file and back, bit for bit: a zip of one JSON document and of arrays as `.npy`.

Nothing in such a file is executed: it names records and classes of expressions that stand in tables, numbers are
numbers, and no member of the zip is ever written to disk. A file from anywhere can be no more than refused.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sym2tf.errors import PersistenceError
from sym2tf.expression_json import read_expressions
from sym2tf.fit.report.records import RECORDS, Reader, Writer
from sym2tf.lazy import lazy

Array = np.ndarray[Any, Any]

FORMAT = "sym2tf fit"
VERSION = 1
DOCUMENT = "fit.json"
MAX_DOCUMENT = 1 << 28  # bytes

_format: Any = lazy("numpy.lib.format")


def save(record: Any, path: Any, *, data: bool = True, derived: Sequence[str] = ()) -> None:
    """Write a record to a file, which is there in full or not at all.

    Args:
        record: a dataclass of records, expressions, arrays and plain values.
        path: where to.
        data: whether the data of the fit go with it.
        derived: attributes that are computed when they are asked for, to be kept as they are now.

    Raises:
        PersistenceError: something in it cannot be saved, or the file cannot be written.
    """
    writer = Writer(data)
    document = {
        "format": FORMAT,
        "version": VERSION,
        "root": writer.record(record),
        "derived": {name: writer.value(getattr(record, name), name) for name in derived},
        "expressions": writer.expressions.nodes,
    }
    target = _path(path)
    try:
        with _replacing(target) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            text = json.dumps(document, separators=(",", ":"), allow_nan=False)
            archive.writestr(zipfile.ZipInfo(DOCUMENT), text, zipfile.ZIP_DEFLATED)
            for k, array in enumerate(writer.arrays):
                with archive.open(zipfile.ZipInfo(_member(k)), "w", force_zip64=True) as member:
                    _format.write_array(member, array, allow_pickle=False)
    except OSError as error:
        raise PersistenceError(f"cannot write {os.fspath(target)!r}: {error.strerror or error}") from error


def load(path: Any, roots: Mapping[str, Any]) -> Any:
    """The record in a file.

    Args:
        path: of the file.
        roots: the classes that it may hold, by name.

    Raises:
        PersistenceError: no such file, or one that is not of this format; says what is wrong with it.
    """
    target = _path(path)
    try:
        with zipfile.ZipFile(target) as archive:
            document = _document(archive)
            arrays = _Arrays(archive)
            reader = Reader(read_expressions(document.get("expressions")), arrays, {**RECORDS, **roots})
            return reader.root(document.get("root"), document.get("derived", {}), roots)
    except FileNotFoundError as error:
        raise PersistenceError(f"there is no file {os.fspath(target)!r}") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise PersistenceError(f"{os.fspath(target)!r} is no saved fit, or a damaged one: {error}") from error
    except OSError as error:
        raise PersistenceError(f"cannot read {os.fspath(target)!r}: {error.strerror or error}") from error
    except PersistenceError as error:
        raise PersistenceError(f"{os.fspath(target)!r}: {error}") from error.__cause__


def _path(path: Any) -> Path:
    if not isinstance(path, str | os.PathLike):
        raise PersistenceError(f"a file is named by its path, got {path!r}")
    return Path(path)


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Any]:
    """A file that takes the place of `path` once it is whole and on disk."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o666 & ~_umask())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _member(k: int) -> str:
    return f"arrays/{k}.npy"


# Reading -----------------------------------------------------------------------------------------


def _document(archive: zipfile.ZipFile) -> dict[str, Any]:
    names = archive.namelist()
    strange = [n for n in names if n != DOCUMENT and n not in {_member(k) for k in range(len(names))}]
    if DOCUMENT not in names or strange or len(set(names)) != len(names):
        odd = f": it has {strange[0][:80]!r}" if strange else ""
        raise PersistenceError(f"this is no saved fit{odd}")
    if archive.getinfo(DOCUMENT).file_size > MAX_DOCUMENT:
        raise PersistenceError(f"{DOCUMENT} has more than {MAX_DOCUMENT} bytes")
    with archive.open(DOCUMENT) as member:
        content = member.read(MAX_DOCUMENT + 1)
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise PersistenceError(f"{DOCUMENT} is no JSON: {str(error)[:100]}") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise PersistenceError(f"this is no saved fit: {DOCUMENT} does not say that it is {FORMAT!r}")
    if document.get("version") != VERSION:
        told = str(document.get("version"))[:20]
        raise PersistenceError(f"this file has version {told} of the format; this sym2tf reads version {VERSION}")
    return document


class _Arrays:
    """The arrays of a file, each read when it is asked for, and no more of it than the file holds."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive

    def __call__(self, k: Any) -> Array:
        if isinstance(k, bool) or not isinstance(k, int) or _member(k) not in self._archive.namelist():
            raise PersistenceError(f"there is no array {str(k)[:20]}")
        info = self._archive.getinfo(_member(k))
        if info.compress_type != zipfile.ZIP_STORED:
            raise PersistenceError(f"array {k} is compressed, which saved fits are not")
        with self._archive.open(info) as member:
            content = io.BytesIO(member.read())
        try:
            readers = {(1, 0): _format.read_array_header_1_0, (2, 0): _format.read_array_header_2_0}
            shape, fortran, dtype = readers[_format.read_magic(content)](content)
        except (ValueError, KeyError) as error:
            raise PersistenceError(f"array {k} is no .npy of version 1 or 2: {str(error)[:100]}") from error
        body = content.getbuffer()[content.tell() :]
        if dtype.kind not in "biufU" or math.prod(shape) * dtype.itemsize != len(body):
            raise PersistenceError(f"array {k} has {len(body)} bytes, but says that it is {dtype} of shape {shape}")
        array = np.frombuffer(body, dtype).reshape(shape, order="F" if fortran else "C")
        return array.copy(order="K")
