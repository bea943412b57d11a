"""The class of a problem, read off the lowered graph: the squares that the cost sums, and the model in them.

It is read before optimisation, which dissolves squares into whatever is quicker to compute.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sym2tf.autodiff import derivatives
from sym2tf.errors import FitError
from sym2tf.fit.statement import Problem
from sym2tf.frontend.describe import describe
from sym2tf.ir.graph import Builder, Graph
from sym2tf.ir.types import Kind, TensorType
from sym2tf.ops.arithmetic import add, mul, pow_
from sym2tf.ops.indexing import slice_
from sym2tf.ops.leaves import input_
from sym2tf.ops.values import Value
from sym2tf.passes.degree import constant_at, degrees

Class = Literal["linear least squares", "quadratic", "nonlinear least squares", "smooth"]


@dataclass(frozen=True)
class Model:
    """`observed ~ model`, read off a residual or an equation.

    Attributes:
        graph: outputs `"observed"` and `"model"`, and `"prediction"`'s inputs are those of `"model"` alone.
        prediction: the graph of `"model"` with only the inputs that it needs.
        observed: what is observed, as text: the name of an input where it is one.
        block: which residual it belongs to.
        sign: 1 where the residual is observed - model, -1 where it is the other way round.
    """

    graph: Graph
    prediction: Graph
    observed: str
    block: int
    sign: int


@dataclass(frozen=True)
class Structure:
    """What the graph of a cost says about the problem.

    Attributes:
        kind: the class.
        degree: of the cost in the free parameters.
        residuals: outputs `"0"`, `"1"`, ...: the residual of each square; None where the cost is no sum of
            squares.
        weights: outputs of the same names: by what each squared residual enters the cost; free of parameters.
        model: the model, where it can be told.
        no_model: why there is none.
    """

    kind: Class
    degree: float
    residuals: Graph | None
    weights: Graph | None
    model: Model | None
    no_model: str


def classify(problem: Problem) -> Structure:
    """The structure of a problem.

    Raises:
        FitError: the cost is linear in the parameters, so it has no minimum.
    """
    graph = problem.graph
    nodes = {graph[v].attributes["name"]: v for v in graph.inputs}
    free = [nodes[u.name] for u in problem.free]
    by_free = degrees(graph, free)
    out = graph.outputs["out"]
    degree = by_free[out]
    if degree <= 1 and not problem.bounded:
        raise FitError(
            f"the cost is linear in {', '.join(problem.names)}: it has no minimum. Is a square or a likelihood missing?"
        )
    squares = _squares(graph, out, by_free)
    if not squares:
        reason = "the cost is no sum of squares, so it does not say what is observed and what is the model"
        return Structure("quadratic" if degree == 2 else "smooth", degree, None, None, None, reason)
    bases = [graph.operands(v)[0] for v in squares]
    linear = all(by_free[v] <= 1 for v in bases)
    residuals = extract(graph, {str(k): v for k, v in enumerate(bases)})
    by_all = degrees(graph, [nodes[u.name] for u in problem.unknowns])
    model, no_model = _model(problem, bases, by_all)
    kind: Class = "linear least squares" if linear else "nonlinear least squares"
    return Structure(kind, degree, residuals, _weights(graph, out, squares), model, no_model)


def extract(graph: Graph, outputs: Mapping[str, int]) -> Graph:
    """The part of `graph` that computes `outputs`, with only the inputs that it needs."""
    builder = Builder()
    needed: set[int] = set(outputs.values())
    for v in reversed(graph.order):
        if v in needed:
            needed.update(graph.operands(v))
    where: dict[int, int] = {}
    for v in graph.order:
        if v in needed:
            where[v] = builder.copy_node(graph, v, [where[u] for u in graph.operands(v)])
    return _built(
        builder,
        graph,
        [v for v in graph.inputs if v in needed],
        where,
        {n: where[v] for n, v in outputs.items()},
    )


def _built(
    builder: Builder,
    graph: Graph,
    inputs: Sequence[int],
    where: Mapping[int, int],
    outputs: Mapping[str, int],
) -> Graph:
    names = {graph[v].attributes["name"] for v in inputs}
    reaches = tuple(reach for reach in graph.info.get("reaches", ()) if reach[0] in names)
    arguments = tuple(graph[v].attributes["name"] for v in inputs)
    info = {**graph.info, "reaches": reaches, "args": arguments, "outputs": tuple(outputs)}
    return builder.build([where[v] for v in inputs], outputs, info)


def _squares(graph: Graph, out: int, degree: Mapping[int, float]) -> list[int]:
    """The squares whose weighted sum, up to a constant, is the cost; none where it is something else."""
    found: dict[int, None] = {}
    stack, seen = [out], {out}
    while stack:
        v = stack.pop()
        op, operands = graph[v].op, graph.operands(v)
        inner = [u for u in operands if degree[u] > 0]
        if op is pow_ and degree[operands[1]] == 0 and constant_at(graph, operands[1]) == 2:
            found[v] = None
            continue
        if not (op is add or op.linear or op is mul) or (op is mul and len(inner) > 1):
            return []
        if op is input_:
            return []
        for u in inner:
            if u not in seen:
                seen.add(u)
                stack.append(u)
    return sorted(found)


def _weights(graph: Graph, out: int, squares: Iterable[int]) -> Graph:
    """The weight of each square: the derivative of the cost, which is linear in its squares, by it."""
    builder = Builder()
    where: dict[int, int] = {}
    stand_ins = []
    for v in graph.order:
        if v in squares:
            attributes = {
                "name": f"square {v}",
                "symbol": None,
                "type": TensorType(Kind.REAL, graph[v].type.shape),
            }
            where[v] = builder.add(input_, (), attributes)
            stand_ins.append(where[v])
        else:
            where[v] = builder.copy_node(graph, v, [where[u] for u in graph.operands(v)])
    linear = builder.build([*(where[v] for v in graph.inputs), *stand_ins], {"out": where[out]}, graph.info)
    answer = derivatives.gradient(linear, stand_ins)
    return extract(answer, {str(k): v for k, v in enumerate(answer.outputs.values())})


def _model(problem: Problem, bases: Sequence[int], degree: Mapping[int, float]) -> tuple[Model | None, str]:
    graph = problem.graph
    if "model" in graph.outputs:
        observed, model = graph.outputs["observed"], graph.outputs["model"]
        if degree[observed] > 0:
            return None, "both sides of the equation hold parameters, so neither is what is observed"
        sides = {"observed": observed, "model": model}
        name = _bare(graph, observed)
        text = graph[name].attributes["name"] if name is not None else str(problem.cost.lhs)
        return Model(extract(graph, sides), extract(graph, {"model": model}), text, 0, 1), ""
    found = [(k, *split) for k, v in enumerate(bases) if (split := _split(graph, v, degree)) is not None]
    if len(found) != 1:
        what = "no residual" if not found else f"{len(found)} residuals"
        return None, (
            f"the cost has {what} of the form y - model with y in data alone, "
            "so the model cannot be told: state it as Eq(y[i], model)"
        )
    block, term, others, sign = found[0]
    builder = Builder()
    where = builder.include(graph)
    terms = [Value(builder, where[u]) for u in others]
    model_value = terms[0] if len(terms) == 1 else add(*terms)
    observed_value = Value(builder, where[term]) if sign == 1 else -Value(builder, where[term])
    model_value = -model_value if sign == 1 else model_value
    whole = builder.build(
        [where[v] for v in graph.inputs], {"observed": observed_value.id, "model": model_value.id}, graph.info
    )
    bare = _bare(graph, term)
    if bare is None or any(graph[u].op is slice_ for u in graph.ancestors(term)):
        text = describe(graph[term].origin).lstrip("-")
    else:
        text = graph[bare].attributes["name"]
    outputs = whole.outputs
    return Model(extract(whole, outputs), extract(whole, {"model": outputs["model"]}), text, block, sign), ""


def _split(graph: Graph, base: int, degree: Mapping[int, float]) -> tuple[int, list[int], int] | None:
    """`(term, other terms, sign)` where the residual is sign*(observed - model): the term is sign*observed.

    What is observed is the one term that is an input used nowhere else in the residual; failing that, the
    one term
    that holds no parameter.
    """
    if graph[base].op is not add:
        return None
    terms = list(graph.operands(base))
    if graph[base].type.rank and not any(degree[u] > 0 for u in terms):
        return None
    plain = [u for u in terms if degree[u] == 0]
    bare = []
    for u in plain:
        source = _bare(graph, u)
        if source is not None and not any(source in graph.ancestors(t) for t in terms if t != u):
            bare.append(u)
    candidates = bare if len(bare) == 1 else plain
    if len(candidates) != 1 or not any(graph[a].op is input_ for a in graph.ancestors(candidates[0])):
        return None
    (term,) = candidates
    return term, [u for u in terms if u != term], _negated(graph, term)


def _bare(graph: Graph, v: int) -> int | None:
    """The input that `v` is, but for its sign and the arrangement of its axes."""
    while graph[v].op is not input_:
        node, operands = graph[v], graph.operands(v)
        if node.op is mul:
            operands = tuple(u for u in operands if constant_at(graph, u) not in (1, -1))
        elif not node.op.linear or node.op is add:
            return None
        if len(operands) != 1:
            return None
        (v,) = operands
    return v


def _negated(graph: Graph, v: int) -> int:
    """-1 where `v` is a product with a negative constant."""
    sign = 1
    if graph[v].op is mul:
        for u in graph.operands(v):
            number = constant_at(graph, u)
            if number is not None and number < 0:
                sign = -sign
    return sign
