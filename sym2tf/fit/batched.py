"""Many independent fits of one formula at once, along leading batch axes of the data."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping
from math import prod
from typing import Any

import numpy as np

from sym2tf.autodiff import derivatives
from sym2tf.backends.levenberg_marquardt import (
    CAREFUL_DAMPING,
    CONVERGED,
    FIRST_DAMPING,
    PATIENCE,
    STALLED,
    UNDEFINED,
    Measure,
    State,
    eliminated,
)
from sym2tf.backends.numpy import Program, program
from sym2tf.backends.tensorflow import batched_lm
from sym2tf.backends.tensorflow.batched_lm import Data, Model, Stepper
from sym2tf.backends.tensorflow.direct import run as run_in_tensorflow
from sym2tf.errors import ArgumentError, DataError, FitWarning, warn
from sym2tf.fit.batch_result import BatchFitResult
from sym2tf.fit.evaluation.functions import divided
from sym2tf.fit.evaluation.residuals import run, why_no_variance
from sym2tf.fit.evaluation.sidebyside import Products
from sym2tf.fit.options import Options
from sym2tf.fit.solvers.linear import RANK_TOLERANCE, power_of_two
from sym2tf.fit.solvers.sidebyside import Ends, groups, in_threads, levenberg_marquardt
from sym2tf.fit.statement.classify import Structure
from sym2tf.fit.statement.memo import made
from sym2tf.fit.statement.problem import Problem
from sym2tf.fit.wording import counted
from sym2tf.ir.dims import evaluate_size
from sym2tf.ir.graph import Graph
from sym2tf.ir.subgraphs import extract
from sym2tf.passes.hoisting import Split
from sym2tf.passes.pipeline import optimize, stabilize

Array = np.ndarray[Any, Any]

MEMORY = 2**28  # bytes of Jacobians at once
SINGLE_FROM = 200_000
"""Residuals of all fits from which the first steps are taken in float32, in half the time; float64 ends them all."""
ILL_CONDITIONED = 1e5  # of J^T W J, with columns of unit length, from which its inverse has less than 1e-10 left
METHODS = (None, "lm", "qr")
LOOP = "fit one set of data at a time, in a loop, for that"
SINGLE: Mapping[str, str] = {
    "multistart": "give each fit a start of its own by arrays of initial values, and fit again those that failed",
    "batch_size": "all fits are computed in blocks anyway",
    "epochs": "max_iterations limits the steps of each",
    "validation": LOOP,
    "patience": LOOP,
    "checkpoint": LOOP,
    "tensorboard": LOOP,
    "likelihood": LOOP,
    "callbacks": LOOP,
    "strategy": "name a device",
    "dtype": "they end in float64; on a device float32 leads the way there by itself",
    "progress": "there is no line of progress for them; see `iterations` and `run_seconds` of the result",
}
"""Options that shape or watch a single search, and what to do instead."""
OPTIONS = {field.name: field.default for field in dataclasses.fields(Options)}


def fit_batch(problem: Problem, structure: Structure, options: Options, began: float) -> BatchFitResult:
    """All fits of a problem with batch axes: Levenberg-Marquardt on all at once, or QR where the model is linear.

    Bounds are kept by projection. A fit that does not converge is flagged, and the others go on.

    Args:
        problem: whose `batch` is not empty.
        structure: of one of the fits: they are all alike.
        options: of `fit`; those that shape a single search do not apply here and are refused.
        began: when the statement began.

    Raises:
        ArgumentError: a cost that is no sum of squares, or options that are for a single fit.
        DataError: fewer observations than parameters, or weights that are not finite or negative.
    """
    _require_squares(problem, structure, options)
    batch = Batch(problem, structure)
    prepared = time.perf_counter()
    linear = structure.kind == "linear least squares" and not problem.bounded and options.method != "lm"
    if linear:
        ends, solver = batch.solved_by_qr(), "QR factorisation of each, because the residuals are linear"
    else:
        ends = batch.solved_by_steps(options.max_iterations, options.device)
        where = "NumPy, by all cores" if options.device is None else f"TensorFlow on {options.device}"
        solver = f"Levenberg-Marquardt on all at once, in {where}, with the symbolic Jacobian"
    finished = time.perf_counter()
    result = BatchFitResult(problem, structure, options, ends, solver, prepared - began, finished - prepared, batch)
    if len(result.failed):
        warn(FitWarning, result.failures())
    return result


def _require_squares(problem: Problem, structure: Structure, options: Options) -> None:
    if structure.residuals is None or structure.weights is None:
        raise ArgumentError(
            f"data have batch axes {problem.batch}, as for independent fits; these are made for sums of squares only, "
            f"and this cost is none ({structure.kind}): fit one set of data at a time"
        )
    if options.method not in METHODS:
        raise ArgumentError(
            f"method={options.method!r} is for a single fit; fits over batch axes {problem.batch} take 'lm', or 'qr' "
            "where the model is linear"
        )
    if options.method == "qr" and structure.kind != "linear least squares":
        raise ArgumentError("method='qr' needs residuals linear in the parameters; these are not")
    for name, instead in SINGLE.items():
        if getattr(options, name) != OPTIONS[name]:
            raise ArgumentError(f"{name} is for a single fit; the data have batch axes {problem.batch}: {instead}")


class Batch:
    """The fits as flat arrays: every array of data either shared or with one axis of fits in front."""

    def __init__(self, problem: Problem, structure: Structure) -> None:
        assert structure.residuals is not None
        self.problem, self.structure = problem, structure
        self.fits, self.count = prod(problem.batch), len(problem.names)
        graph = made(structure.residuals, "stable", lambda: stabilize(structure.residuals))  # type: ignore[arg-type]
        self.blocks = len(graph.outputs)
        names = [u.name for u in problem.free]
        self.graph: Graph = made(graph, ("linearised", *names), lambda: _linearised(graph, names))
        self.ranks = {graph[v].attributes["name"]: graph[v].type.rank for v in graph.inputs}
        self.arrays: dict[str, Array] = {}
        for name in self.ranks:
            value = _given(problem, name)
            if value is not None:
                self.arrays[name] = self._flat(value, self.ranks[name])
        self.root, self.freedom, self.no_variance = self._weighting()

    def _flat(self, array: Array, rank: int) -> Array:
        """Without batch axes as it is, else `(fits, core...)`."""
        core = array.shape[array.ndim - rank :]
        if array.ndim == rank:
            return array
        return np.broadcast_to(array, (*self.problem.batch, *core)).reshape(self.fits, *core)

    def _weighting(self) -> tuple[Array | None, Array, str]:
        """Roots of the weights (fits or 1, rows), None where all are 1; freedom; why there is no variance."""
        assert self.structure.weights is not None
        assert self.structure.residuals is not None
        types = [self.structure.weights[v].type for v in self.structure.weights.outputs.values()]
        parts = [
            self._flat(part, type.rank).reshape(
                -1 if part.ndim > type.rank else 1, prod(part.shape[part.ndim - type.rank :])
            )
            for part, type in zip(run(self.structure.weights, self.problem).values(), types, strict=True)
        ]
        longest = max(len(part) for part in parts)
        weights = np.concatenate([np.broadcast_to(part, (longest, part.shape[1])) for part in parts], axis=1)
        if not np.isfinite(weights).all() or (weights < 0).any():
            raise DataError(
                "a squared residual has a weight that is negative or not finite: do the weights or standard deviations "
                "in the data hold zeros?"
            )
        used = np.broadcast_to((weights > 0).sum(1), (self.fits,))
        if used.min() < self.count:
            where = "" if longest == 1 else f" in fit {self.index(int(used.argmin()))}"
            raise DataError(
                f"{counted(self.count, 'parameter')} but only {counted(int(used.min()), 'observation')}{where}: "
                "too few to determine the parameters"
            )
        problem, graph = self.problem, self.structure.residuals
        no_variance = "" if problem.equations else why_no_variance(problem, graph, weights)
        return None if (weights == 1).all() else np.sqrt(weights), used - self.count, no_variance

    @property
    def shared(self) -> Array:
        """(fits or 1), the root of the weight that all rows of a fit share, 1 where they differ."""
        if self.root is None:
            return np.ones(1)
        return np.where((self.root == self.root[:, :1]).all(axis=1), self.root[:, 0], 1.0)

    def index(self, k: int) -> Any:
        """Fit `k` by its place along the batch axes."""
        place = tuple(int(i) for i in np.unravel_index(k, self.problem.batch))
        return place[0] if len(place) == 1 else place

    @property
    def rows(self) -> int:
        """Residuals of one fit."""
        types = [self.graph[v].type for v in self.graph.outputs.values()][: self.blocks]
        return sum(prod(evaluate_size(d, self.problem.bound) for d in type.shape) for type in types)

    def _stepper(self, dtype: str) -> Stepper:
        bound, bounded = self.problem.bound, self.problem.bounded
        key = (
            "stepper",
            dtype,
            bounded,
            tuple(sorted(bound.items())),
            tuple(u.initial.shape for u in self.problem.free),
        )
        rest = self._parts.rest
        return made(
            rest, key, lambda: Stepper(Model(rest, self.blocks, self.parameters, bound), dtype, bounded=bounded)
        )

    @property
    def parameters(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """Name and core shape of each."""
        return tuple((u.name, u.initial.shape) for u in self.problem.free)

    @property
    def _parts(self) -> Split:
        free, bound = {u.name for u in self.problem.free}, dict(self.problem.bound)
        return made(
            self.graph, ("parts", *sorted(free), *sorted(bound.items())), lambda: divided(self.graph, free, bound)
        )

    def _starts(self) -> Array:
        parts = [
            np.broadcast_to(
                u.initial if u.starts is None else self._flat(u.starts, u.initial.ndim), (self.fits, *u.initial.shape)
            )
            for u in self.problem.free
        ]
        return np.concatenate([part.reshape(self.fits, -1) for part in parts], axis=1)

    # Levenberg-Marquardt ------------------------------------------------------------------------------------------

    def solved_by_steps(self, most: int, device: str | None) -> Ends:
        """Where Levenberg-Marquardt ends: in NumPy, or in TensorFlow on a device that is named.

        Fits that come to nothing in steps that are nearly those of Gauss and Newton begin again with shorter ones.
        """

        def found(places: Array, most: int, damping: float) -> State:
            if device is None:
                work = lambda part: self._in_numpy(places[part], most, damping)
                parts = in_threads(work, groups(len(places)))
            else:
                with batched_lm.on(device):
                    parts = [self._in_tensorflow(places[part], most, damping) for part in self.chunks(len(places))]
            return State(*(np.concatenate(pieces, axis=-1) for pieces in zip(*parts, strict=True)))

        ends = found(np.arange(self.fits), min(most, PATIENCE), FIRST_DAMPING)
        left = np.flatnonzero((ends.ended != CONVERGED) & (ends.ended != UNDEFINED))
        if len(left) and most > PATIENCE:
            again = found(left, most - PATIENCE, CAREFUL_DAMPING)
            better = (again.ended == CONVERGED) | (again.products[-1, -1] <= ends.products[-1, -1, left])
            again.iterations[:] += ends.iterations[left]
            for whole, part in zip(ends, again, strict=True):
                whole[..., left[better]] = part[..., better]
            ends.ended[left] = again.ended
            ends.iterations[left] = again.iterations
        p = self.count
        G = ends.products.transpose(2, 0, 1)
        return Ends(ends.theta.T, G[:, p, p], 2 * G[:, :p, p], ends.iterations, ends.ended, G[:, :p, :p])

    def _in_numpy(self, part: Array, most: int, damping: float) -> State:
        parts, problem = self._parts, self.problem
        given = self.inputs(part)
        if parts.once.outputs:
            once: Program = made(parts.once, "program", lambda: program(parts.once))
            needed = {parts.once[v].attributes["name"] for v in parts.once.inputs}
            given |= once({n: a for n, a in given.items() if n in needed}, problem.bound)
        names = {parts.rest[v].attributes["name"] for v in parts.rest.inputs}
        data = {n: a for n, a in given.items() if n in names}
        products = Products(
            parts.rest, self.blocks, self.parameters, problem.bound, data, self.root_of(part), len(part)
        )
        bounds = (problem.packed("lower")[:, None], problem.packed("upper")[:, None]) if problem.bounded else None
        return levenberg_marquardt(products, self._starts()[part].T.copy(), bounds, self._measure(part), most, damping)

    def _in_tensorflow(self, part: Array, most: int, damping: float) -> State:
        wide = self._stepper("float64")
        steppers = [wide] if self.fits * self.rows < SINGLE_FROM else [self._stepper("float32"), wide]
        low, high = (self.problem.packed(name)[:, None] for name in ("lower", "upper"))
        starts = self._starts()[part].T.copy()
        return batched_lm.levenberg_marquardt(steppers, starts, low, high, self._tensors(part), most, damping)

    def chunks(self, fits: int) -> Iterator[slice]:
        """Ranges of fits whose Jacobians fit into memory together."""
        step = max(1, MEMORY // (8 * self.rows * (self.count + 4)))
        yield from (slice(start, min(start + step, fits)) for start in range(0, fits, step))

    def _tensors(self, part: Array) -> Data:
        """The data of a range of fits, with what they alone decide computed."""
        split = self._parts
        given = {name: batched_lm.constant(array) for name, array in self.inputs(part).items()}
        kept = {}
        if split.once.outputs:
            once = {split.once[v].attributes["name"] for v in split.once.inputs}
            kept = run_in_tensorflow(split.once, {n: x for n, x in given.items() if n in once}, self.problem.bound)
        rest = split.rest
        ranks = {rest[v].attributes["name"]: rest[v].type.rank for v in rest.inputs}
        values = {n: x for n, x in {**given, **kept}.items() if n in ranks}
        batched = {n: x for n, x in values.items() if len(x.shape) > ranks[n]}
        shared = {n: x for n, x in values.items() if n not in batched}
        root = self.root_of(part)
        measure = Measure(*map(batched_lm.constant, self._measure(part)))
        return Data(batched, shared, None if root is None else batched_lm.constant(root), measure)

    def _measure(self, part: Array) -> Measure:
        """By what the fits of a range are judged."""
        freedom = np.maximum(np.broadcast_to(self.freedom, (self.fits,))[part], 1).astype(np.float64)
        return Measure(freedom, np.array(np.broadcast_to(self._magnitude(part), len(freedom))))

    def root_of(self, part: Any) -> Array | None:
        """The roots of the weights of some fits."""
        return self.root if self.root is None or len(self.root) == 1 else self.root[part]

    def inputs(self, part: Any) -> dict[str, Array]:
        """The arrays of some fits by name."""
        return {n: a if a.ndim == self.ranks[n] else a[part] for n, a in self.arrays.items()}

    def _magnitude(self, part: Array) -> Array:
        """The sum of squares of what each fit observes, (fits,) or (1,); NaN where that cannot be told."""
        model = self.structure.model
        if model is None or self.blocks > 1:
            return np.full(1, np.nan)
        graph = model.graph
        observed = made(graph, "observed", lambda: extract(graph, {"observed": graph.outputs["observed"]}))
        rank = observed[observed.outputs["observed"]].type.rank
        values = self._flat(run(observed, self.problem)["observed"], rank)
        values = values[part] if values.ndim > rank else values[None]
        flat = values.reshape(len(values), -1)
        root = self.root_of(part)
        weighted = flat if root is None else flat * root
        return np.asarray(np.square(weighted).sum(1))

    # Linear least squares, and what the Jacobian says --------------------------------------------------------------

    def linearised(self, part: Any, theta: Array) -> tuple[Array, Array]:
        """The Jacobians `(fits, rows, p)` and the residuals `(fits, rows)`, both times the roots of the weights."""
        compute: Program = made(self.graph, "program", lambda: program(self.graph))
        found = list(compute({**self.inputs(part), **self.problem.unpacked(theta)}, self.problem.bound).values())
        fits, each = len(theta), len(self.problem.free)
        designs, residuals = [], []
        for k in range(self.blocks):
            r = found[k].reshape(fits, -1)
            columns = [found[self.blocks + k * each + j].reshape(fits, r.shape[1], -1) for j in range(each)]
            designs.append(np.concatenate(columns, axis=2))
            residuals.append(r)
        J, r = np.concatenate(designs, axis=1), np.concatenate(residuals, axis=1)
        root = self.root_of(part)
        return (J, r) if root is None else (J * root[:, :, None], r * root)

    def solved_by_qr(self) -> Ends:
        """The minima where residuals are linear in the parameters; NaN where they are not determined."""
        theta, cost = np.empty((self.fits, self.count)), np.empty(self.fits)
        gradient, state = np.empty_like(theta), np.full(self.fits, CONVERGED)
        for part in self.chunks(self.fits):
            J, r = self.linearised(part, np.zeros((part.stop - part.start, self.count)))
            X, scale, Q, lost = factored(J)
            z = -(X @ (Q.swapaxes(1, 2) @ r[:, :, None]))
            scaled = J / scale[:, None, :]
            left = r[:, :, None] + scaled @ z
            z = z - X @ (Q.swapaxes(1, 2) @ left)  # one step of refinement
            left = (r[:, :, None] + scaled @ z)[:, :, 0]
            theta[part] = np.where(lost[:, None], np.nan, z[:, :, 0] / scale)
            cost[part] = np.where(lost, np.nan, np.square(left).sum(1))
            gradient[part] = 2 * (J.swapaxes(1, 2) @ left[:, :, None])[:, :, 0]
            undefined = ~(np.isfinite(J).all((1, 2)) & np.isfinite(r).all(1))
            state[part] = np.where(undefined, UNDEFINED, np.where(lost, STALLED, CONVERGED))
        return Ends(theta, cost, gradient, np.ones(self.fits, np.int64), state)

    def inverses(self, ends: Ends) -> Array:
        """(fits, p, p): (J^T W J)^-1 at the ends, NaN where J has not full rank.

        From the products themselves where they have digits enough, else from the triangular factors of J.
        """
        inverse, left = np.empty((self.fits, self.count, self.count)), np.arange(self.fits)
        if ends.products is not None:
            inverse, condition = inverted(ends.products)
            left = np.flatnonzero(~(condition <= ILL_CONDITIONED))
        for part in self.chunks(len(left)):
            some = left[part]
            with np.errstate(all="ignore"):
                X, scale, _, lost = factored(self.linearised(some, ends.theta[some])[0])
                F = X / scale[:, :, None]
                inverse[some] = np.where(lost[:, None, None], np.nan, F @ F.swapaxes(1, 2))
        return inverse


def inverted(products: Array) -> tuple[Array, Array]:
    """The inverses of products of columns, (fits, p, p), and the condition numbers of the scaled ones, (fits,)."""
    p = products.shape[1]
    A = products.transpose(1, 2, 0)
    with np.errstate(all="ignore"):
        length = np.sqrt(np.stack([A[k, k] for k in range(p)]))
        scaled = A / (length[:, None] * length)
        unit = np.broadcast_to(np.eye(p)[:, :, None], A.shape)
        inverse = np.stack(eliminated([np.concatenate([a, e]) for a, e in zip(scaled, unit, strict=True)]))
        condition = np.sqrt(np.square(scaled).sum((0, 1)) * np.square(inverse).sum((0, 1)))
        return np.ascontiguousarray((inverse / (length[:, None] * length)).transpose(2, 0, 1)), condition


def factored(J: Array) -> tuple[Array, Array, Array, Array]:
    """`(X, scale, Q, lost)` of stacked matrices: J = Q X^-1 diag(scale); `lost` says which have not full rank.

    Args:
        J: (fits, rows, p).
    """
    J = np.where(np.isfinite(J).all((1, 2), keepdims=True), J, 0.0)
    scale = power_of_two(np.sqrt(np.square(J / power_of_two(np.abs(J).max(1, keepdims=True))).sum(1)))
    scale = scale * power_of_two(np.abs(J).max(1))
    Q, R = np.linalg.qr(J / scale[:, None, :])
    values = np.linalg.svd(R, compute_uv=False)
    lost = values[:, -1] <= RANK_TOLERANCE * J.shape[2] * values[:, 0]
    unit = np.eye(J.shape[2])
    X = np.linalg.solve(np.where(lost[:, None, None], unit, R), np.broadcast_to(unit, R.shape))
    return X, scale, Q, lost


def _linearised(graph: Graph, names: list[str]) -> Graph:
    nodes = {graph[v].attributes["name"]: v for v in graph.inputs}
    return optimize(derivatives.jacobian(graph, [nodes[n] for n in names], values=True, forward=True))[0]


def _given(problem: Problem, name: str) -> Array | None:
    """The array of an input that is not estimated: data, or a fixed parameter, which may differ from fit to fit."""
    if name in problem.data:
        return problem.data[name]
    fixed: Mapping[str, Array] = {
        u.name: u.initial if u.starts is None else u.starts for u in problem.unknowns if u.fixed
    }
    return fixed.get(name)
