"""Many independent fits of one formula at once, along leading batch axes of the data."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from math import prod
from typing import Any

import numpy as np

from sym2tf.autodiff import derivatives
from sym2tf.backends.numpy import Program, program
from sym2tf.backends.tensorflow import batched_lm
from sym2tf.backends.tensorflow.batched_lm import CONVERGED, STALLED, UNDEFINED, Data, Ends, Model, Stepper
from sym2tf.backends.tensorflow.direct import run as run_in_tensorflow
from sym2tf.errors import ArgumentError, DataError, FitWarning, warn
from sym2tf.fit.batch_result import BatchFitResult
from sym2tf.fit.evaluation.functions import divided
from sym2tf.fit.evaluation.residuals import run
from sym2tf.fit.options import Options
from sym2tf.fit.solvers.linear import RANK_TOLERANCE, power_of_two
from sym2tf.fit.statement.classify import Structure
from sym2tf.fit.statement.memo import made
from sym2tf.fit.statement.problem import Problem
from sym2tf.fit.wording import counted
from sym2tf.ir.graph import Graph
from sym2tf.ir.subgraphs import extract
from sym2tf.passes.hoisting import Split
from sym2tf.passes.pipeline import optimize, stabilize

Array = np.ndarray[Any, Any]

MEMORY = 2**28  # bytes of Jacobians at once
SINGLE_FROM = 200_000
"""Residuals of all fits from which the first steps are taken in float32, in half the time; float64 ends them all."""
METHODS = (None, "lm", "qr")


def fit_batch(problem: Problem, structure: Structure, options: Options, began: float) -> BatchFitResult:
    """All fits of a problem with batch axes: Levenberg-Marquardt in TensorFlow, or QR where the model is linear.

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
        with batched_lm.on(options.device):
            ends = batch.solved_by_steps(options.max_iterations)
        solver = "Levenberg-Marquardt on all at once, in TensorFlow, with the symbolic Jacobian"
    finished = time.perf_counter()
    result = BatchFitResult(problem, structure, options, ends, batch, solver, prepared - began, finished - prepared)
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
    single = {"multistart": None, "batch_size": None, "validation": None, "checkpoint": None, "likelihood": False}
    for name, default in single.items():
        if getattr(options, name) is not default:
            raise ArgumentError(f"{name} is for a single fit; the data have batch axes {problem.batch}")


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
        self.root, self.freedom = self._weighting()

    def _flat(self, array: Array, rank: int) -> Array:
        """Without batch axes as it is, else `(fits, core...)`."""
        core = array.shape[array.ndim - rank :]
        if array.ndim == rank:
            return array
        return np.broadcast_to(array, (*self.problem.batch, *core)).reshape(self.fits, *core)

    def _weighting(self) -> tuple[Array | None, Array]:
        """Roots of the weights (fits or 1, rows), None where all are equal to 1, and the degrees of freedom."""
        assert self.structure.weights is not None
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
        return None if (weights == 1).all() else np.sqrt(weights), used - self.count

    def index(self, k: int) -> Any:
        """Fit `k` by its place along the batch axes."""
        place = tuple(int(i) for i in np.unravel_index(k, self.problem.batch))
        return place[0] if len(place) == 1 else place

    @property
    def rows(self) -> int:
        return sum(prod(shape) for shape in self._stepper("float64").shapes[: self.blocks])

    def _stepper(self, dtype: str) -> Stepper:
        bound, bounded = self.problem.bound, self.problem.bounded
        key = (
            "stepper",
            dtype,
            bounded,
            tuple(sorted(bound.items())),
            tuple(u.initial.shape for u in self.problem.free),
        )
        parameters = tuple((u.name, u.initial.shape) for u in self.problem.free)
        rest = self._parts.rest
        return made(rest, key, lambda: Stepper(Model(rest, self.blocks, parameters, bound), dtype, bounded=bounded))

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

    def solved_by_steps(self, most: int) -> Ends:
        """Where Levenberg-Marquardt ends, chunk by chunk."""
        wide = self._stepper("float64")
        steppers = [wide] if self.fits * self.rows < SINGLE_FROM else [self._stepper("float32"), wide]
        low, high = self.problem.packed("lower"), self.problem.packed("upper")
        starts = self._starts()
        found = [
            batched_lm.levenberg_marquardt(steppers, starts[part], low, high, self._tensors(part), most)
            for part in self.chunks()
        ]
        return Ends(*(np.concatenate([getattr(ends, name) for ends in found]) for name in Ends.__dataclass_fields__))

    def chunks(self) -> Iterator[slice]:
        """Ranges of fits whose Jacobians fit into memory together."""
        step = max(1, MEMORY // (8 * self.rows * (self.count + 4)))
        yield from (slice(start, min(start + step, self.fits)) for start in range(0, self.fits, step))

    def _tensors(self, part: slice) -> Data:
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
        count = part.stop - part.start
        root = self.root if self.root is None or len(self.root) == 1 else self.root[part]
        freedom = np.maximum(np.broadcast_to(self.freedom, (self.fits,))[part], 1).astype(np.float64)
        magnitude = np.broadcast_to(self._magnitude(part), (count,))
        return Data(
            batched,
            shared,
            None if root is None else batched_lm.constant(root),
            batched_lm.constant(freedom),
            batched_lm.constant(np.ascontiguousarray(magnitude)),
        )

    def inputs(self, part: slice) -> dict[str, Array]:
        """The arrays of a range of fits by name."""
        return {n: a if a.ndim == self.ranks[n] else a[part] for n, a in self.arrays.items()}

    def _magnitude(self, part: slice) -> Array:
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
        root = self.root if self.root is None or len(self.root) == 1 else self.root[part]
        weighted = flat if root is None else flat * root
        return np.asarray(np.square(weighted).sum(1))

    # Linear least squares, and what the Jacobian says --------------------------------------------------------------

    def linearised(self, part: slice, theta: Array) -> tuple[Array, Array]:
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
        if self.root is None:
            return J, r
        root = self.root if len(self.root) == 1 else self.root[part]
        return J * root[:, :, None], r * root

    def solved_by_qr(self) -> Ends:
        """The minima where residuals are linear in the parameters; NaN where they are not determined."""
        theta, cost = np.empty((self.fits, self.count)), np.empty(self.fits)
        gradient, state = np.empty_like(theta), np.full(self.fits, CONVERGED)
        for part in self.chunks():
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

    def inverse_roots(self, theta: Array) -> Array:
        """(fits, p, p): F with F F^T = (J^T W J)^-1 at `theta`, NaN where J has not full rank."""
        roots = np.empty((self.fits, self.count, self.count))
        for part in self.chunks():
            with np.errstate(all="ignore"):
                X, scale, _, lost = factored(self.linearised(part, theta[part])[0])
                roots[part] = np.where(lost[:, None, None], np.nan, X / scale[:, :, None])
        return roots


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
