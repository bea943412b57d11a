"""One array of the data: numbers checked, whatever they came in; arrays of float64 are never copied."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from sym2tf.backends.numpy import fractions_in
from sym2tf.errors import DataError
from sym2tf.fit.wording import counted

Array = np.ndarray[Any, Any]

AT_ONCE = 1_000_000  # elements that are looked at at once, so that checking a mapped file takes no memory
SORTS = {"c": "complex numbers", "O": "objects", "U": "text", "S": "text", "M": "dates", "m": "time differences"}


def numbers(name: str, value: Any) -> Array:
    """The array of a column, float64 and finite.

    Args:
        name: of it, for errors.
        value: what the user gave: a number, an array, a Series, a tensor, or the path of a `.npy` file, which is
            mapped into memory.

    Raises:
        DataError: missing, masked or infinite values, with row and column; what is not real numbers; nothing at all.
    """
    if type(value) is np.ndarray and value.dtype == np.float64 and 0 < value.size <= AT_ONCE:
        if not np.isfinite(value).all():
            require_finite(name, value)
        return value
    if isinstance(value, str | os.PathLike):
        value = mapped(value)
    array = _present(name, value)
    if array.dtype.kind not in "biuf":
        what = SORTS.get(array.dtype.kind, f"{array.dtype}")
        raise DataError(f"{name} holds {what}, not real numbers{_first_odd(array)}")
    if not array.size:
        raise DataError(f"{name} is empty (shape {array.shape})")
    array = array.astype(np.float64, copy=False)
    require_finite(name, array)
    return array


def integers(name: str, array: Array) -> Array:
    """Data that stand in subscripts: a table may hold them as floats."""
    wrong = fractions_in(array)
    if wrong.size:
        raise DataError(f"{name} stands in a subscript and must be integers, but holds {wrong.flat[0]}")
    return array.astype(np.int64)


def mapped(path: str | os.PathLike[str]) -> Array:
    """The array in a `.npy` file, mapped into memory: it is read where it is used.

    Raises:
        DataError: a file that cannot be read, or that is none.
    """
    where = Path(path)
    if where.suffix != ".npy":
        raise DataError(f"{os.fspath(path)!r} is text; a file of numbers for one symbol ends in .npy")
    try:
        array: Array = np.load(where, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise DataError(f"cannot read {os.fspath(path)!r}: {error.strerror or error}") from error
    except ValueError as error:
        raise DataError(f"{os.fspath(path)!r} is no .npy file of numbers: {error}") from error
    return array


def require_finite(name: str, array: Array) -> None:
    """Raise `DataError` naming the first element that is not finite, and how many there are."""
    count, first = 0, None
    for start, part in _parts(array):
        bad = ~np.isfinite(part)
        if bad.any():
            count += int(bad.sum())
            first = start + int(np.flatnonzero(bad)[0]) if first is None else first
    if first is None:
        return
    place = tuple(int(k) for k in np.unravel_index(first, array.shape))
    verb = "value that is" if count == 1 else "values that are"
    raise DataError(
        f"{name} has {count} {verb} not finite: the first is {array[place]} at {_place(place)}; leave out what was "
        "not observed, in all columns"
    )


def _parts(array: Array) -> Iterator[tuple[int, Array]]:
    """The elements in C order, some at a time, each part with the number of its first one."""
    if array.ndim < 2 or array.flags.c_contiguous:
        flat = array.reshape(-1)
        yield from ((k, flat[k : k + AT_ONCE]) for k in range(0, flat.size, AT_ONCE))
        return
    row = array[0].size
    step = max(1, AT_ONCE // row)
    yield from ((k * row, array[k : k + step].ravel()) for k in range(0, len(array), step))


def _present(name: str, value: Any) -> Array:
    """An array without masked or missing values."""
    hidden = int(np.sum(np.ma.getmaskarray(value))) if isinstance(value, np.ma.MaskedArray) else 0
    if hidden:
        raise DataError(
            f"{name} has {counted(hidden, 'masked value')}: leave the rows out, for they would be used as they are"
        )
    if hasattr(value, "isna") and hasattr(value, "dtype"):  # a pandas Series, which may be nullable
        missing = np.asarray(value.isna())
        if missing.any():
            row = int(np.flatnonzero(missing)[0])
            label = value.index[row]
            where = f"at {row}" + ("" if label == row else f" (index {label!r})")
            raise DataError(
                f"{name} has {counted(int(missing.sum()), 'missing value')}: the first is {where}; "
                "leave the rows out (dropna) or fill them"
            )
        kind = getattr(value.dtype, "kind", "O")
        return np.asarray(value.to_numpy(dtype=np.float64 if kind in "biuf" else None))
    try:
        return np.asarray(value)
    except ValueError as error:
        raise DataError(f"{name} is not an array of numbers: {error}") from None


def _first_odd(array: Array) -> str:
    """The first element that is no number and where it stands, as from a file with a gap or a unit in it."""
    for place in np.ndindex(array.shape):
        if not isinstance(array[place], int | float | np.number):
            return f": the first is {array[place]!s:.40} at {_place(place)}"
    return ""


def _place(place: tuple[int, ...]) -> Any:
    return place[0] if len(place) == 1 else place
