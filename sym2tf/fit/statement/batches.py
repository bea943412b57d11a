"""Batches of a stream, each checked against the first one, for which the problem was stated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from sym2tf.errors import DataError
from sym2tf.fit.statement.inputs import Inputs, typed
from sym2tf.fit.statement.problem import Problem
from sym2tf.fit.statement.separable import Separable
from sym2tf.fit.wording import counted

Array = np.ndarray[Any, Any]


def checked_batches(
    problem: Problem, own: Separable, batches: Iterable[Mapping[Any, Any]]
) -> Iterator[Mapping[str, Array]]:
    """The batches by input name, with the numbers of their rows where the cost uses these.

    Args:
        problem: stated for the first batch.
        own: its cost as a sum over rows.
        batches: as the user gives them; those without rows are left out.

    Raises:
        DataError: a batch that is not like the first, with its number and its first row.
    """
    inputs = Inputs(problem.graph)
    graph = problem.graph
    seen, known = 0, set[Any]()
    for number, batch in enumerate(batches):
        where = f"batch {number}, from row {seen}"
        known = known or set(batch)
        if not known.issuperset(batch):
            raise DataError(f"{where}: there is {', '.join(map(str, set(batch) - known))}, which the first batch lacks")
        given = {name: batch[key] for key in batch if (name := inputs.find(key)) is not None and name in problem.data}
        missing = [name for name in own.axes if name not in given]
        if missing:
            raise DataError(f"{where}: there is no {', '.join(missing)}")
        found = dict(problem.data)
        if not any(np.size(given[name]) for name in own.axes):
            continue  # a batch without rows
        for name, value in given.items():
            type_ = graph[inputs.nodes[name]].type
            try:
                array = found[name] = typed(graph[inputs.nodes[name]], value)
            except DataError as error:
                raise DataError(f"{where}: {error}") from error
            if array.ndim != type_.rank:
                raise DataError(
                    f"{where}: {name} has shape {array.shape}, {counted(type_.rank, 'axis', 'axes')} are due"
                )
        lengths = {name: found[name].shape[axis] for name, axis in own.axes.items()}
        if len(set(lengths.values())) > 1:
            told = ", ".join(f"{name} has {length}" for name, length in lengths.items())
            raise DataError(f"{where}: lengths differ: {told}")
        rows = next(iter(lengths.values()))
        if own.rows is not None:
            found[own.rows] = np.arange(seen, seen + rows)
        seen += rows
        yield found
