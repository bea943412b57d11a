"""A delimited text file -> columns of numbers, for fits from the command line.

Only the columns that are asked for are read as numbers; nothing is skipped, filled in or guessed at in them.
"""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sym2tf.errors import DataError

Array = np.ndarray[Any, Any]

DELIMITERS = ("\t", ";", ",", " ")  # tried in this order; a blank stands for any white space


@dataclass(frozen=True)
class DataFile:
    """The cells of a file, as text.

    Attributes:
        path: where they came from.
        header: the names of the columns; `"1"`, `"2"`, ... where the first line is numbers already.
        rows: the cells of each row, as many as there are names.
        lines: the line of the file on which each row ends, counted from 1.
    """

    path: str
    header: tuple[str, ...]
    rows: Sequence[Sequence[str]] = field(repr=False)
    lines: Sequence[int] = field(repr=False)

    def has(self, name: str) -> bool:
        """Whether there is a column of that name."""
        return name in self.header

    def column(self, name: str) -> Array:
        """The numbers of one column, (rows,).

        Args:
            name: as in the header, or the number of the column, counted from 1.

        Raises:
            DataError: no such column, two of that name, or a cell that is no finite number; says where.
        """
        index = self._index(name)
        numbers = [_number(row[index]) for row in self.rows]
        bad = [k for k, x in enumerate(numbers) if x is None]
        if bad:
            count = f"{len(bad)} cells are" if len(bad) > 1 else "a cell is"
            cell = self.rows[bad[0]][index]
            comma = "; decimals are written with a point" if _number(cell.replace(",", ".")) is not None else ""
            found = f"{cell[:40]!r}{comma}" if cell else "an empty cell"
            raise DataError(
                f"{self.path}: column {self.header[index]!r}: {count} no finite number: {found} in row "
                f"{bad[0] + 1} (line {self.lines[bad[0]]})"
            )
        return np.array(numbers, dtype=np.float64)

    def _index(self, name: str) -> int:
        count = self.header.count(name)
        if count > 1:
            raise DataError(f"{self.path}: {count} columns are named {name!r}; give the number of the column")
        if count == 1:
            return self.header.index(name)
        if name.isascii() and name.isdigit() and 1 <= int(name) <= len(self.header):
            return int(name) - 1
        raise DataError(f"{self.path}: no column {name!r}; the columns are {', '.join(map(repr, self.header))}")


def read_data_file(path: str | os.PathLike[str]) -> DataFile:
    """Read a text file whose columns are separated by commas, semicolons, tabs or white space.

    The separator is the one that gives every line the same number of cells; cells may be quoted, empty lines
    are passed over. A first line of numbers alone is a row, else it is the header.

    Raises:
        DataError: a file that cannot be read, is empty, is not UTF-8, or whose rows differ in length.
    """
    where = os.fspath(path)
    try:
        with open(where, encoding="utf-8-sig", newline="") as stream:
            text = stream.read()
    except OSError as error:
        raise DataError(f"cannot read {where!r}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: not UTF-8 text (byte {error.start}); is it a text file?") from error
    if "\0" in text:
        raise DataError(f"{where}: holds zero bytes; is it a text file?")
    rows = _best_reading(where, text)
    width = len(rows[0][1])
    for line, cells in rows:
        if len(cells) != width:
            raise DataError(f"{where}: line {line} has {len(cells)} cells, the first line has {width}")
    numeric = all(_number(cell) is not None for cell in rows[0][1])
    header = tuple(str(k + 1) for k in range(width)) if numeric else tuple(rows[0][1])
    body = rows if numeric else rows[1:]
    if not body:
        raise DataError(f"{where}: a header and no rows")
    return DataFile(where, header, [cells for _, cells in body], [line for line, _ in body])


def _best_reading(where: str, text: str) -> list[tuple[int, list[str]]]:
    """The lines cut at the first separator that gives all the same number of cells, else at the first that cuts."""
    first = text.lstrip("\r\n").partition("\n")[0]
    found = None
    for delimiter in DELIMITERS:
        if delimiter not in first and (delimiter != " " or len(first.split()) < 2):
            continue
        rows = _cells(where, text, delimiter)
        width = len(rows[0][1])
        if width > 1 and all(len(cells) == width for _, cells in rows):
            return rows
        found = rows if found is None and width > 1 else found
    return found or _cells(where, text, ",")


def _cells(where: str, text: str, delimiter: str) -> list[tuple[int, list[str]]]:
    """`(line, cells)` of every line that is not empty."""
    lines = io.StringIO(text, newline="")
    if delimiter == " ":
        found = [(k, line.split()) for k, line in enumerate(lines, 1)]
    else:
        reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=delimiter == ",")
        try:
            found = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
        except csv.Error as error:
            raise DataError(f"{where}: line {reader.line_num}: {error}") from error
    found = [(line, cells) for line, cells in found if cells not in ([], [""])]
    if not found:
        raise DataError(f"{where}: no data in it")
    return found


def _number(cell: str) -> float | None:
    """The finite number that a cell writes down, in ASCII as every program writes it."""
    if not cell.isascii() or "_" in cell:
        return None
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
