"""What the user hands over as data: a `Table` of named arrays at hand as a whole, or a `Stream` of batches."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from sym2tf.datafile import read_data_file
from sym2tf.errors import ArgumentError, DataError
from sym2tf.fit.statement.arrays import mapped
from sym2tf.fit.wording import kind_of

Array = np.ndarray[Any, Any]

FORMS = (
    "a mapping from symbols or names to arrays, a DataFrame, a structured array, the path of a CSV, TSV, .npy or .npz "
    "file, or batches: an iterable of such mappings, or a function that returns one"
)
ELSEWHERE = {".parquet", ".feather", ".xlsx", ".xls", ".json", ".h5", ".hdf5", ".pkl", ".pickle"}


@dataclass(frozen=True)
class Table:
    """Named arrays.

    Attributes:
        keys: symbols, bases or names.
        get: key -> the array, or what becomes one.
        closed: every key is meant for the cost, so that one that it lacks is a mistake; a file or DataFrame may have
            further columns.
        source: what it is, for errors.
    """

    keys: Sequence[Any]
    get: Callable[[Any], Any] = field(repr=False)
    closed: bool = True
    source: str = "data"


class Stream:
    """Batches, one after the other.

    Attributes:
        source: what the user gave.
        repeatable: whether they can be gone through again.
        first: the first batch.
        closed: as of a `Table`: batches that are DataFrames may have further columns.
    """

    def __init__(self, source: Any) -> None:
        self.source = source
        iterator = self._open()
        self.repeatable = callable(source) or iterator is not source
        found = next(iterator, None)
        if found is None:
            raise DataError("data holds no batch")
        if not hasattr(found, "keys"):
            # a list of arrays, and not of batches
            raise ArgumentError(f"data is {kind_of(source)} whose first item is {kind_of(found)}; give {FORMS}")
        self.first: Mapping[Any, Any] = _items(found)
        self.closed = not hasattr(found, "columns")
        self._rest: Iterator[Any] | None = chain((found,), iterator)

    def _open(self) -> Iterator[Any]:
        made = self.source() if callable(self.source) else self.source
        if not isinstance(made, Iterable):
            raise ArgumentError(f"data is a function that returns {kind_of(made)}, not batches")
        return iter(made)

    def batches(self) -> Iterator[Mapping[Any, Any]]:
        """The batches from the beginning, as the user gave them.

        Raises:
            DataError: they have been gone through already, and are not repeatable; or one is no mapping.
        """
        rest, self._rest = self._rest, None
        if rest is None and not self.repeatable:
            raise DataError(
                f"data is {kind_of(self.source)}, which can be gone through only once, and another pass is needed: "
                "give a function that returns the batches anew"
            )
        for number, batch in enumerate(self._open() if rest is None else rest):
            if not hasattr(batch, "keys"):
                raise DataError(f"batch {number} is {kind_of(batch)}, not a mapping like the first")
            yield _items(batch)

    def __reduce__(self) -> tuple[Any, tuple[()]]:
        """A copy for another process or a file knows that there were batches, and has none of them."""
        return PastBatches, ()


@dataclass(frozen=True)
class PastBatches:
    """Stands for the batches of a fit that comes from a file or another process, where they are not."""

    repeatable = False

    def batches(self) -> Iterator[Mapping[Any, Any]]:
        """Nothing.

        Raises:
            DataError: always.
        """
        raise DataError("the data of this fit came in batches, which are not kept with it: fit again with the data")


def read(data: Any) -> Table | Stream:
    """The data in one of two forms.

    Raises:
        ArgumentError: something that is no data.
        DataError: a file that cannot be read; no batch.
    """
    if data is None:
        return Table((), {}.__getitem__)
    if isinstance(data, str | os.PathLike):
        return _file(data)
    names = getattr(getattr(data, "dtype", None), "names", None)
    if names:  # a structured or record array
        return Table(names, lambda name: data[name], closed=False)
    if isinstance(data, Mapping):
        return Table(list(data), data.__getitem__)
    if hasattr(data, "columns") and hasattr(data, "__getitem__"):  # a DataFrame
        return Table(_distinct(data.columns), data.__getitem__, closed=False)
    if hasattr(data, "keys"):
        return Table(list(data.keys()), data.__getitem__)
    if callable(data) or (isinstance(data, Iterable) and not hasattr(data, "dtype")):
        return Stream(data)
    raise ArgumentError(f"data is {kind_of(data)}; give {FORMS}")


def _items(batch: Any) -> dict[Any, Any]:
    return {key: batch[key] for key in batch.keys()}  # noqa: SIM118  # a DataFrame iterates in its own way


def _distinct(columns: Iterable[Hashable]) -> list[Any]:
    names = list(columns)
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"data has two columns {twice!r}")
    return names


def _file(path: str | os.PathLike[str]) -> Table:
    where = os.fspath(path)
    suffix = Path(path).suffix.lower()
    if suffix in ELSEWHERE:
        raise DataError(f"{where!r}: sym2tf reads delimited text, .npy and .npz; read this with pandas")
    if suffix == ".npy":
        array = mapped(path)
        if not array.dtype.names:
            raise DataError(
                f"{where!r} holds an array of shape {array.shape} without names: say what it is, data={{x: {where!r}}}"
            )
        return Table(array.dtype.names, lambda name: array[name], closed=False, source=where)
    if suffix == ".npz":
        return Table(_members(where), lambda name: _member(where, name), closed=False, source=where)
    table = read_data_file(path)
    return Table([name for name in table.header if table.header.count(name) == 1], table.column, False, where)


def _members(where: str) -> list[str]:
    """The names of the arrays in an archive."""
    try:
        with zipfile.ZipFile(where) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist()]
    except OSError as error:
        raise DataError(f"cannot read {where!r}: {error.strerror or error}") from error
    except zipfile.BadZipFile as error:
        raise DataError(f"{where!r} is no .npz file: {error}") from error


def _member(where: str, name: str) -> Array:
    try:
        with np.load(where, allow_pickle=False) as archive:
            array: Array = archive[name]
    except (ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"{where!r}: {name} is no array of numbers: {error}") from error
    return array
