"""The class of a problem, read off the lowered graph: the squares that the cost sums, and the model in them.

It is read before optimisation, which dissolves squares into whatever is quicker to compute.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sym2tf.autodiff import derivatives
from sym2tf.errors import FitError
from sym2tf.fit.statement.equations import label
from sym2tf.fit.statement.memo import made
from sym2tf.fit.statement.problem import Problem
from sym2tf.frontend.describe import describe
from sym2tf.ir.graph import Builder, Graph
from sym2tf.ir.subgraphs import extract
from sym2tf.ir.types import Kind, TensorType
from sym2tf.ops.arithmetic import add, mul, pow_
from sym2tf.ops.indexing import slice_
from sym2tf.ops.leaves import input_
from sym2tf.ops.values import Value
from sym2tf.passes.degree import constant_at, degrees

Class = Literal["linear least squares", "quadratic", "nonlinear least squares", "M-estimation", "smooth"]


@dataclass(frozen=True)
class Model:
    """`observed ~ model`, read off a residual or an equation.

    Attributes:
        graph: outputs `"observed"` and `"model"`, and `"prediction"`'s inputs are those of `"model"` alone.
        prediction: the graph of `"model"` with only the inputs that it needs.
        observed: what is observed, as text: the name of an input where it is one.
        block: which residual of `Structure.residuals`, or of `Structure.whitened`, it belongs to.
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
        models: the model of each equation; of a cost the one that can be told from its residuals, if any.
        no_model: why there is not one.
        whitened: outputs `"0"`, `"1"`, ...: the residuals of the equations in units of sigma, where the cost is the sum
            of `Problem.loss` of them, and that has no unknowns of its own.
    """

    kind: Class
    degree: float
    residuals: Graph | None
    weights: Graph | None
    models: tuple[Model, ...]
    no_model: str
    whitened: Graph | None = None

    @property
    def model(self) -> Model | None:
        """The model, where there is just one."""
        return self.models[0] if len(self.models) == 1 else None


def classify(problem: Problem) -> Structure:
    """The structure of a problem.

    Raises:
        FitError: the cost is linear in the parameters, so it has no minimum.
    """
    names = tuple(u.name for u in problem.free), tuple(u.name for u in problem.unknowns)
    key = "structure", *names, problem.bounded, bool(problem.constraints)
    return made(problem.graph, key, lambda: _classified(problem))


def _classified(problem: Problem) -> Structure:
    graph = problem.graph
    nodes = {graph[v].attributes["name"]: v for v in graph.inputs}
    free = [nodes[u.name] for u in problem.free]
    by_free = degrees(graph, free)
    out = graph.outputs["out"]
    degree = by_free[out]
    if degree <= 1 and not problem.bounded and not problem.constraints:
        raise FitError(
            f"the cost is linear in {', '.join(problem.names)}: it has no minimum. Is a square or a likelihood missing?"
        )
    by_all = degrees(graph, [nodes[u.name] for u in problem.unknowns])
    squares = squares_in(graph, out, by_free)
    if not squares and problem.loss is not None:
        return _with_loss(problem, degree, by_all)
    if not squares:
        reason = "the cost is no sum of squares, so it does not say what is observed and what is the model"
        return Structure("quadratic" if degree == 2 else "smooth", degree, None, None, (), reason)
    bases = [graph.operands(v)[0] for v in squares]
    linear = all(by_free[v] <= 1 for v in bases)
    residuals = extract(graph, {str(k): v for k, v in enumerate(bases)})
    models, no_model = _models(problem, bases, by_all)
    kind: Class = "linear least squares" if linear else "nonlinear least squares"
    return Structure(kind, degree, residuals, weights_of(graph, out, squares), models, no_model)


def _with_loss(problem: Problem, degree: float, by_all: Mapping[int, float]) -> Structure:
    """A sum of losses of residuals that are not their squares: M-estimation (Huber, Robust Statistics, 1981)."""
    graph, equations = problem.graph, range(len(problem.equations))
    bases = [graph.outputs[label("residual", k)] for k in equations]
    models, no_model = _models(problem, bases, by_all)
    assert problem.loss is not None
    if problem.loss.symbols:  # the loss has parameters, or data of its own
        return Structure("smooth", degree, None, None, models, no_model)
    whitened = extract(graph, {str(k): v for k, v in enumerate(bases)})
    return Structure("M-estimation", degree, None, None, models, no_model, whitened)


def squares_in(graph: Graph, out: int, degree: Mapping[int, float]) -> list[int]:
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


def weights_of(graph: Graph, out: int, squares: Iterable[int]) -> Graph:
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


def _models(problem: Problem, bases: Sequence[int], degree: Mapping[int, float]) -> tuple[tuple[Model, ...], str]:
    """The models, and why there is not just one."""
    if not problem.equations:
        model, reason = _from_residuals(problem, bases, degree)
        return () if model is None else (model,), reason
    found, reason = [], ""
    for k, (left, _) in enumerate(problem.equations):
        model = _from_equation(problem.graph, k, left, bases, degree)
        if model is None:
            reason = "both sides of the equation hold parameters, so neither is what is observed"
        else:
            found.append(model)
    if len(found) > 1:
        reason = f"there are {len(found)} models, one for each equation"
    return tuple(found), reason


def _from_equation(graph: Graph, k: int, left: Any, bases: Sequence[int], degree: Mapping[int, float]) -> Model | None:
    """The model of one equation; None where what is on its left side holds parameters."""
    observed, model = graph.outputs[label("observed", k)], graph.outputs[label("model", k)]
    if degree[observed] > 0:
        return None
    sides = {"observed": observed, "model": model}
    name = _bare(graph, observed)
    text = graph[name].attributes["name"] if name is not None else describe(left)
    own = {graph.outputs[label("difference", k)], graph.outputs[label("residual", k)]}
    block = next((b for b, v in enumerate(bases) if v in own), k)
    return Model(extract(graph, sides), extract(graph, {"model": model}), text, block, 1)


def _from_residuals(problem: Problem, bases: Sequence[int], degree: Mapping[int, float]) -> tuple[Model | None, str]:
    """The model of a cost, from the residual that says what is observed."""
    graph = problem.graph
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
