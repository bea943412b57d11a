"""Sets up what watches over a fit, from its options, and says what a fit has found that is stopped before its end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from os import PathLike
from typing import Any

import numpy as np

from sym2tf.backends.numpy import program
from sym2tf.backends.tensorflow.tensorboard import EventFile
from sym2tf.errors import ArgumentError, DataError
from sym2tf.fit.evaluation.nonfinite import explain
from sym2tf.fit.evaluation.objective import Objective
from sym2tf.fit.evaluation.residuals import inputs_of, run
from sym2tf.fit.options import Options
from sym2tf.fit.process.checkpoint import Checkpoint, identity
from sym2tf.fit.process.monitor import Monitor, Step, StopFit, Watcher
from sym2tf.fit.process.progress import progress_line
from sym2tf.fit.solvers.solution import Solution
from sym2tf.fit.statement.problem import Problem
from sym2tf.fit.wording import counted
from sym2tf.ir.subgraphs import extract

Array = np.ndarray[Any, Any]

HOLDS = 1e-6  # by which a constraint may be violated where a fit is stopped, as in SciPy's solvers


def monitor_of(problem: Problem, options: Options, validation: Problem | None = None, **further: Any) -> Monitor:
    """The monitor of a fit, with its checkpoint, progress line and event file.

    Args:
        problem: to be solved.
        options: of the fit.
        validation: the same cost over validation data.
        further: what else a checkpoint must agree with, where it holds states: the size of batches, say.

    Raises:
        FitError: the folder of the checkpoint cannot be used.
        ArgumentError: `patience` without validation data, or `epochs`, where nothing goes by epochs.
        DataError: the validation data ask for parameters of other shapes.
    """
    if options.patience is not None and validation is None and not further:
        raise ArgumentError("patience needs validation=: the cost on the data themselves falls with every step")
    if options.epochs != 1 and not further:
        raise ArgumentError("epochs are passes by mini-batches, and nothing asks for these: give batch_size as well")
    watchers: list[Watcher] = []
    line = progress_line(options.progress)
    if line is not None:
        watchers.append(line)
    if options.tensorboard is not None:
        watchers.append(TensorBoard(options.tensorboard, problem))
    validate = None if validation is None else _cost_of(validation, problem)
    checkpoint = None if options.checkpoint is None else _checkpoint(problem, options, options.checkpoint, further)
    return Monitor(options, maximize=problem.maximize, checkpoint=checkpoint, validate=validate, watchers=watchers)


class TensorBoard:
    """A watcher that writes every step into an event file: scalars, and histograms of parameters that are arrays."""

    def __init__(self, folder: str | PathLike[str], problem: Problem) -> None:
        self._file, self._problem = EventFile(folder), problem

    def __call__(self, step: Step) -> None:
        numbers = {"cost": step.cost, "gradient norm": step.gradient_norm, "validation cost": step.validation}
        arrays = self._problem.unpacked(step.theta)
        self._file.write(
            step.iteration,
            {tag: number for tag, number in numbers.items() if number is not None}
            | {f"parameters/{name}": float(array) for name, array in arrays.items() if not array.shape},
            {f"parameters/{name}": array for name, array in arrays.items() if array.shape},
        )

    def tick(self, evaluations: int) -> None:
        """Nothing: only steps are written."""

    def close(self) -> None:
        """Write what is left."""
        self._file.close()


def where_stopped(problem: Problem, monitor: Monitor, stop: StopFit | KeyboardInterrupt) -> Solution:
    """The solution of a fit that was ended from outside of its solver: the best point that it knows.

    Raises:
        KeyboardInterrupt: there is none yet.
    """
    if isinstance(stop, StopFit):
        theta, reason, message = stop.theta, stop.reason, stop.message
    elif monitor.best is None:
        raise stop
    else:
        theta, reason = monitor.best[0], "Ctrl-C"
        message = (
            f"interrupted by Ctrl-C after {counted(monitor.evaluations, 'evaluation')}: "
            "the parameters are the best so far, and no minimum"
        )
    violated = _violated(problem, theta)
    if violated:
        message += f"; there {', '.join(violated)} {'does' if len(violated) == 1 else 'do'} not hold"
    _, gradient = Objective(problem, Monitor(Options())).value_and_gradient(theta)
    return Solution(
        theta,
        monitor.solver,
        reason == "validation",
        message,
        len(monitor.history),
        monitor.evaluations,
        gradient,
        stopped=reason,
    )


def _violated(problem: Problem, theta: Array) -> list[str]:
    """The constraints and signs that a point on the way does not obey."""
    values = problem.unpacked(theta)
    found = []
    for constraint in problem.constraints:
        value = run(constraint.graph, problem, values)["out"]
        if (np.abs(value) > HOLDS).any() if constraint.kind == "equality" else (value < -HOLDS).any():
            found.append(constraint.text)
    low, high = problem.packed("lower"), problem.packed("upper")
    outside = (theta < low) | (theta > high)
    return found + [f"the bounds of {name}" for name, out in zip(problem.names, outside, strict=True) if out]


def with_undefined(solution: Solution, problem: Problem, monitor: Monitor) -> Solution:
    """A solution that says, where its solver gave up, what was not defined on the way."""
    if solution.success or solution.stopped or monitor.undefined is None:
        return solution
    because = explain(problem, monitor.undefined)
    if not because:
        return solution
    return replace(solution, message=f"{solution.message}; on the way the cost was not finite: {because}")


def _cost_of(validation: Problem, problem: Problem) -> Callable[[Array], float]:
    """The cost over validation data at a flat vector of the parameters of `problem`."""
    if validation.names != problem.names:
        raise DataError(
            f"with the validation data the parameters are {', '.join(validation.names[:8])}, with the data "
            f"{', '.join(problem.names[:8])}: give their shapes in params, or validation data of the same groups"
        )
    graph = extract(validation.graph, {"out": validation.graph.outputs["out"]})
    compute = program(graph)

    def cost(theta: Array) -> float:
        inputs = inputs_of(graph, validation, validation.unpacked(theta))
        return float(compute(inputs, validation.bound)["out"].reshape(()))

    return cost


def _checkpoint(problem: Problem, options: Options, folder: str | PathLike[str], further: dict[str, Any]) -> Checkpoint:
    return Checkpoint(
        folder,
        identity(
            {"the cost": problem.graph} | {f"the constraint {c.text}": c.graph for c in problem.constraints},
            {**problem.data, **problem.fixed},
            **further,
            parameters=[(u.name, u.initial.shape) for u in problem.free],
            sizes=sorted(problem.bound.items()),
            dtype=options.dtype,
            device=options.device,
        ),
    )
