"""The verbs of the library that are not methods: the stages of the compiler one by one, pictures, verification."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sym2tf.autodiff import derivatives
from sym2tf.backends.sympy import raise_to_sympy
from sym2tf.backends.tensorflow.source import generate_source
from sym2tf.check_report import CheckReport
from sym2tf.compiled import CompiledFunction, compile
from sym2tf.errors import ArgumentError
from sym2tf.fit.batch_result import BatchFitResult
from sym2tf.fit.report import persistence
from sym2tf.fit.result import FitResult
from sym2tf.frontend.lower import lower
from sym2tf.ir.graph import Graph
from sym2tf.lazy import lazy
from sym2tf.passes import pipeline
from sym2tf.render.api import Picture, render_graph
from sym2tf.trees import leaves, map_nest

_keras = lazy("sym2tf.keras")


def differentiate(thing: Any, wrt: Any = None) -> Graph:
    """The graph of the gradient of each (scalar) output.

    Args:
        thing: a graph, or an expression, which is lowered first.
        wrt: an input, by symbol or name, or a sequence of them; all by default.

    Returns:
        A graph with the outputs `"out/0"`, `"out/1"`, ...: for each output one for each of `wrt`.

    Raises:
        DifferentiationError: an output is not scalar, or an operation has no derivative.
    """
    graph = _graph(thing)
    known: dict[Any, int] = {}
    for v in graph.inputs:
        known[graph[v].attributes["name"]] = known[graph[v].attributes["symbol"]] = v
    chosen: Sequence[Any] = [graph[v].attributes["name"] for v in graph.inputs] if wrt is None else list(leaves(wrt))
    unknown = [w for w in chosen if w not in known]
    if unknown:
        raise ArgumentError(f"wrt: {unknown[0]} is no input of the graph")
    answer = derivatives.gradient(graph, [known[w] for w in chosen])
    return Graph(answer.nx, answer.inputs, answer.outputs, {**answer.info, "outputs": tuple(answer.outputs)})


def optimize(thing: Any, *, level: str = "stable") -> Graph:
    """The optimised graph of a graph or an expression; `compile(...).report` says what each pass did."""
    return pipeline.optimize(_graph(thing), level=level)[0]


def generate(thing: Any, *, dtype: str = "float64", name: str = "f") -> str:
    """Stand-alone TensorFlow source for a graph as it is, or for an expression, which is lowered first."""
    return generate_source(_graph(thing), dtype=dtype, name=name).text


def to_sympy(thing: Any) -> Any:
    """A graph or compiled function raised back to SymPy, so that people can read what was derived.

    Returns:
        The structure that a call returns, with expressions as leaves: matrix expressions where all tensors are
        matrices; otherwise a tensor is its element at free indices.

    Raises:
        ResourceLimitError: an expression would be too large to read.
        GraphError: an operation for which SymPy has no notation.
    """
    graph = _graph(thing)
    raised = raise_to_sympy(graph)
    nest = graph.info.get("outputs")
    if nest is None or set(leaves(nest)) != set(raised):
        return next(iter(raised.values())) if len(raised) == 1 else raised
    return map_nest(lambda name, path: raised[name], nest)


def load_fit(path: Any) -> Any:
    """The fit, or the batch of fits, that `save` of its result wrote; nothing in the file is executed.

    Returns:
        A `FitResult` or a `BatchFitResult`.

    Raises:
        PersistenceError: no such file, or one that is no saved fit.
    """
    return persistence.load(path, {"FitResult": FitResult, "BatchFitResult": BatchFitResult})


def keras_loss(expression: Any, y_true: Any = "y_true", y_pred: Any = "y_pred", **options: Any) -> Any:
    """A loss for `Model.compile` from a formula.

    Args:
        expression: in plain symbols, averaged over the elements as Keras' own losses are; or a sum over indices of
            bases, `Sum((y_true[j] - y_pred[j])**2, (j, 0, n - 1))`, for each row of a batch.
        y_true: what is observed: a symbol, a base, or its name.
        y_pred: what is predicted.
        options: `constants`, numbers for all other symbols; `name` and `reduction`, as of every loss.

    Returns:
        A `sym2tf.keras.ExpressionLoss`; its derivative is that of sym2tf.

    Raises:
        ArgumentError: a formula with other symbols.
    """
    return _keras.ExpressionLoss(expression, y_true, y_pred, **options)


def _graph(thing: Any) -> Graph:
    """What each stage works on: a graph, that of a function before optimisation, or that of an expression."""
    if isinstance(thing, Graph):
        return thing
    return thing.lowered if isinstance(thing, CompiledFunction) else lower(thing)


def render(thing: Any, path: Any = None, *, stage: str = "optimized", format: str | None = None) -> Picture:
    """A picture of a graph.

    Args:
        thing: a CompiledFunction, a Graph, or an expression, which is compiled first.
        path: where to write; the suffix says the format.
        stage: `"lowered"` or `"optimized"`.
        format: `"svg"`, `"png"`, `"pdf"` or `"dot"`; by default from the path, else SVG.

    Raises:
        RenderError: an unknown format, a graph too large to draw, or a file that cannot be written.
    """
    if isinstance(thing, Graph):
        return render_graph(thing, path, format=format)
    function = thing if isinstance(thing, CompiledFunction) else compile(thing)
    return function.render(path, stage=stage, format=format)


def check(thing: Any, **options: Any) -> CheckReport:
    """Verify a compiled function, or an expression, which is compiled first; see `CompiledFunction.check`."""
    function = thing if isinstance(thing, CompiledFunction) else compile(thing)
    return function.check(**options)
