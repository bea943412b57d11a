"""Where mini-batches come from: shuffled rows of data at hand, or a stream as it is."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sym2tf.backends.tensorflow.minibatch import shuffled, streamed
from sym2tf.errors import ArgumentError, DataError
from sym2tf.fit.evaluation.batchcost import BatchCost
from sym2tf.fit.options import Options
from sym2tf.fit.wording import counted

Array = np.ndarray[Any, Any]
Batches = Callable[[], Iterable[Mapping[str, Array]]]

BATCH_SIZE = 256  # rows, where the user does not say
AT_ONCE = 65_536  # rows that are evaluated in one go where nothing is learnt from them


@dataclass(frozen=True)
class NamedBatches:
    """Batches of a stream by input name.

    Attributes:
        batches: goes through them from the beginning.
        repeatable: whether it can do so more than once.
    """

    batches: Batches
    repeatable: bool


class AtHand:
    """Shuffled batches of data at hand as a whole.

    Attributes:
        count: of observations.
        reason: why mini-batches are taken.
        wording: what a batch is.
        failed: nothing; of a stream what the user's batches have raised.
        summed: whether the cost of a batch is the sum over its rows, and no estimate of the whole.
    """

    reason = "batch_size asks for it"
    failed = None
    summed = False

    def __init__(self, cost: BatchCost, options: Options) -> None:
        self.cost, self.options = cost, options
        self.count = cost.count
        self.size = min(options.batch_size or BATCH_SIZE, cost.count)
        self.per_epoch = -(-cost.count // self.size)
        self.wording = f"{self.size} of {counted(cost.count, 'row')}"
        self._arrays = cost.observed(cost.problem.data)
        self._open: Any = None

    def opened(self, epoch: int, position: int) -> tuple[Any, int | None]:
        """An iterator that stands before a batch of an epoch, and how many are left of this epoch."""
        if self._open is None:
            steps = epoch * self.per_epoch + position, self.options.epochs * self.per_epoch
            seed = self.options.seed
            self._open = iter(shuffled(self.cost.layout, self._arrays, self.count, self.size, seed, steps))
        return self._open, self.per_epoch - position

    def batch(self, epoch: int, position: int) -> Mapping[str, Array] | None:
        """A batch by itself."""
        step = epoch * self.per_epoch + position
        seed = self.options.seed
        one = shuffled(self.cost.layout, self._arrays, self.count, self.size, seed, (step, step + 1))
        return next(iter(one.as_numpy_iterator()))

    def whole(self, theta: Array) -> tuple[float | None, Array | None]:
        """Cost and gradient over all data."""
        found = self.cost.total(theta, self.cost.blocks(self.cost.problem.data, AT_ONCE))
        return found.value, found.gradient


class Streamed:
    """Batches as a stream gives them.

    Attributes:
        count: of observations, None where the cost can do without.
        reason: why mini-batches are taken.
        wording: what a batch is.
        failed: what the user's batches have raised.
        summed: whether the cost of a batch is the sum over its rows, and no estimate of the whole.
    """

    reason = "the data come in batches and the model is not linear"
    wording = "a stream"

    def __init__(self, cost: BatchCost, options: Options, stream: NamedBatches) -> None:
        if not stream.repeatable and options.epochs > 1:
            raise DataError(
                "data can be gone through only once, and epochs asks for more: give a function that returns the "
                "batches anew"
            )
        if options.batch_size is not None:
            raise ArgumentError("batch_size is for data at hand: a stream says itself how long its batches are")
        self.cost, self.stream = cost, stream
        self._use = "factor" if cost.problem.equations else cost.use_of_count
        self.count = self._counted() if self._use == "needed" else None
        self.summed = self._use == "factor" and not cost.problem.equations
        self.failed: Exception | None = None

    def _counted(self) -> int:
        if not self.stream.repeatable:
            raise DataError(
                "the cost weighs a sum over the observations against other terms, so their number must be known, and "
                "data can be gone through only once: divide the sum by their number, or give a function that returns "
                "the batches anew"
            )
        name, axis = next(iter(self.cost.separable.axes.items()))
        return sum(np.shape(batch[name])[axis] for batch in self.stream.batches())

    def opened(self, epoch: int, position: int) -> tuple[Any, int | None]:
        """An iterator that stands before a batch of an epoch; how many are left is not known."""
        return iter(streamed(self.cost.layout, self._remembering, self.cost.problem.data, position)), None

    def _remembering(self) -> Iterator[Mapping[str, Array]]:
        """The batches; TensorFlow replaces an exception of the user's by one of its own."""
        try:
            yield from self.stream.batches()
        except Exception as error:
            self.failed = error
            raise

    def batch(self, epoch: int, position: int) -> Mapping[str, Array] | None:
        """A batch by itself, where that can be."""
        if not self.stream.repeatable:
            return None
        return next(itertools.islice(iter(self.stream.batches()), position, None), None)

    def whole(self, theta: Array) -> tuple[float | None, Array | None]:
        """Cost and gradient over all data."""
        if not self.stream.repeatable:
            return None, None
        found = self.cost.total(theta, self.stream.batches(), per_row=self._use == "mean", count=self.count)
        return found.value, found.gradient
