"""`compile`, and what it returns: a function of arrays that knows its graph, its source and its derivatives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any, Literal, overload

import sympy as sp

from sym2tf import check as checking
from sym2tf.arguments import Arguments
from sym2tf.autodiff import derivatives
from sym2tf.autodiff.elements import with_shifts
from sym2tf.backends.constants import FORMATS
from sym2tf.backends.sympy import raise_to_sympy
from sym2tf.backends.tensorflow.runtime import Program, as_tf_function, require_jit
from sym2tf.backends.tensorflow.source import generate_source
from sym2tf.check_report import CheckReport
from sym2tf.errors import ArgumentError, DtypeError
from sym2tf.frontend.context import leaf_name
from sym2tf.frontend.describe import describe, is_small
from sym2tf.frontend.lower import lower
from sym2tf.ir.graph import Graph, Node
from sym2tf.ir.pickling import Depths
from sym2tf.ir.types import Kind
from sym2tf.lazy import lazy
from sym2tf.passes.contraction import same_operations
from sym2tf.passes.pipeline import Level, Report, normalize, optimize, stabilize
from sym2tf.render.api import Picture, render_graph
from sym2tf.structured.compressed import CompressedDerivative
from sym2tf.structured.source import Source, one_of
from sym2tf.structured.sparse import SparseDerivative
from sym2tf.trees import is_nest, leaves, map_nest, refill
from sym2tf.wrt import chosen, input_name, numbered, resolve

_layers = lazy("sym2tf.keras")  # stands above this layer, and imports Keras

_MADE_ANEW = ("_program", "function")  # hold TensorFlow objects
REAL_DTYPES = ("float64", "float32", "bfloat16", "float16")


def compile(
    expr: Any,
    args: Any = None,
    *more: Any,
    dtype: Any = "float64",
    jit: bool = False,
    indices: Sequence[Any] = (),
    level: Level = "stable",
    name: str = "f",
    assume: Any = (),
) -> CompiledFunction:
    """A fast function from a SymPy expression.

    Args:
        expr: a SymPy expression, a number, or a list, tuple or dict of these, nested as you like; the function returns
            the same structure.
        args: the arguments in order: symbols, indexed bases or elements, applied functions, names of these, and nests
            of them all. By default the free inputs sorted by name, where numbers in names count as numbers (`x2` before
            `x10`); symbols that are sizes (in bounds and shapes) are left out.
        more: nothing; so that `compile(expr, x, y)` can say what was meant.
        dtype: of real values: `"float64"`, `"float32"`, `"bfloat16"` or `"float16"`, or the NumPy or TensorFlow type.
        jit: compile with XLA; refused where XLA computes an operation badly.
        indices: the order of free indices as output axes; by default sorted by name.
        level: which rewrite rules may be used: `"exact"` (same bits), `"real"` (same in exact arithmetic), `"stable"`
            (those and the ones that keep more digits).
        name: of the generated function.
        assume: what holds for inputs, which decides by which algorithm they are computed with: SymPy's
            `Q.positive_definite(A)` and the like, joined by `&` or in a sequence, `sym2tf.Simplex(t, axis)`,
            `sym2tf.OneHot(t, axis)`. Nothing checks the data for it, and derivatives are those without it.

    Raises:
        UnsupportedExpressionError: lists every sub-expression that cannot be lowered.
        ArgumentError: `args` lacks an input, something is no expression, or `assume` is not about an input.
        DtypeError: an unknown dtype.
        JitError: XLA is not to be trusted with an operation.

    Example:
        >>> x, y = sp.symbols("x y")
        >>> f = compile(sp.exp(-x**2) * sp.sin(y))
        >>> f(0.5, 1.0)
    """
    if more:
        listed = ", ".join(str(a) for a in (args, *more))
        raise ArgumentError(f"give the arguments as one list, args=[{listed}]; the options that follow go by name")
    graph = lower(expr, args=args, indices=indices, assume=assume)
    return CompiledFunction(graph, dtype=dtype, jit=jit, level=level, name=name, expr=expr)


class _OfInstances:
    """An attribute that instances have and the class has not: `inspect` asks both for `__signature__`."""

    def __init__(self, value: Callable[[Any], Any]) -> None:
        self.value = value

    def __get__(self, instance: Any, owner: Any) -> Any:
        return None if instance is None else self.value(instance)


class CompiledFunction:
    """A function of numbers and arrays, made by `compile` or as a derivative of another one.

    Call it with its arguments by position or by name; sizes by name only. Arguments broadcast over batch axes, which
    stand in front of the core axes of each argument (see `signature`).

    Attributes:
        lowered: the graph as it came from SymPy or from differentiation, before optimisation.
        dtype: of real values.
        jit: whether XLA compiles it.
        expr: what was compiled; None for derivatives.
    """

    autograph_info__ = None  # tells TensorFlow's AutoGraph that there is nothing to convert, as `do_not_convert` would

    def __init__(
        self,
        graph: Graph,
        *,
        dtype: Any = "float64",
        jit: bool = False,
        level: Level = "stable",
        name: str = "f",
        expr: Any = None,
        title: str = "",
        taped: bool = True,
    ) -> None:
        self.lowered = graph
        self._taped = (
            taped  # whether a GradientTape gets its derivative: TensorFlow keeps what it needs for that for ever
        )
        self.dtype, self.jit, self.level, self.name, self.expr = _dtype_name(dtype), jit, level, name, expr
        self.title = title or _title(expr)
        self._optimized = optimize(graph, level=level, jit=jit)
        if jit:
            require_jit(self.graph)
        self._arguments = Arguments(self.graph, self.name)
        self._nest: Any = graph.info["outputs"]

    def __copy__(self) -> CompiledFunction:
        return self

    def __deepcopy__(self, memo: Any) -> CompiledFunction:
        return self  # nothing in it changes once it is made

    def __getstate__(self) -> dict[str, Any]:
        """For `pickle`: nothing of TensorFlow, which is made anew at the first call, and no `expr` too deep for it."""
        state = {k: v for k, v in vars(self).items() if k not in _MADE_ANEW}
        depths = Depths()
        shallow = all(depths.shallow(leaf) is not None for leaf in leaves(self.expr))
        return state if shallow else state | {"expr": None}

    # What it is ------------------------------------------------------------------------------------------------

    @property
    def graph(self) -> Graph:
        """The optimised graph; `graph.nx` is a `networkx.MultiDiGraph`."""
        return self._optimized[0]

    @property
    def report(self) -> Report:
        """What every pass did: nodes before and after, rules fired, seconds."""
        return self._optimized[1]

    @cached_property
    def source(self) -> str:
        """Stand-alone TensorFlow code that can be pasted into another program; needs no sym2tf."""
        if "_program" in self.__dict__:
            return self._program.source.text
        return generate_source(self.graph, dtype=self.dtype, name=self.name, title=self.title).text

    @property
    def arguments(self) -> tuple[Any, ...]:
        """The arguments in order, as names; nests stay nests."""
        return self._arguments.nest

    @property
    def sizes(self) -> dict[str, bool]:
        """The sizes, which are passed by name, and whether each must be given because no data determine it."""
        return self._arguments.sizes

    @property
    def signature(self) -> str:
        """Core shapes as in NumPy's generalised ufuncs, `"(n),(n),()->()"`."""
        inputs = ",".join(_core(self.lowered[v]) for v in self.lowered.inputs)
        outputs = ",".join(_core(self.lowered[v]) for v in self.lowered.outputs.values())
        return f"{inputs}->{outputs}"

    @property
    def traces(self) -> int:
        """How often TensorFlow has traced it: once for each pattern of ranks that it was called with."""
        return self._program.traces if "_program" in self.__dict__ else 0

    def __repr__(self) -> str:
        symbols = {input_name(n): n.attributes["symbol"] for n in (self.lowered[v] for v in self.lowered.inputs)}
        arguments = ", ".join(str(map_nest(lambda n, path: _explained(n, symbols.get(n)), a)) for a in self.arguments)
        return f"<sym2tf {self.name}({arguments}): {self.title}; {self.signature}, {self.dtype}{', jit' * self.jit}>"

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)

    @property
    def __name__(self) -> str:
        return self.name

    __signature__ = _OfInstances(lambda self: self._arguments.signature())

    def _repr_latex_(self) -> str | None:
        """The expression, where it is small enough to be read."""
        if self.expr is None or is_nest(self.expr) or not is_small(self.expr, 400):
            return None
        return f"$\\displaystyle {sp.latex(self.expr)}$"

    def _repr_svg_(self) -> str | None:
        return self.render()._repr_svg_()

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        bundle: dict[str, Any] = {"text/plain": repr(self)}
        latex = self._repr_latex_()
        if latex is not None:
            bundle["text/latex"] = latex
        if len(self.graph) <= 200:
            bundle["image/svg+xml"] = self._repr_svg_()
        return bundle

    def render(self, path: Any = None, *, stage: str = "optimized", format: str | None = None) -> Picture:
        """A picture of the graph; see `sym2tf.render`."""
        graphs = {"lowered": self.lowered, "optimized": self.graph}
        if stage not in graphs:
            raise ArgumentError(f"stage is one of {', '.join(graphs)}, got {stage!r}")
        return render_graph(graphs[stage], path, format=format, dtype=self.dtype)

    # Calling it --------------------------------------------------------------------------------------------------

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """The value: the structure that was compiled, with tensors as leaves.

        Arguments go by position, `f(1, 2)`, by name, `f(x=1, y=2)`, or in one mapping, `f({x: 1, y: 2})`.

        Raises:
            ArgumentError: missing, unknown or repeated arguments.
            ShapeError, SizeError, DtypeError: data that do not fit.
        """
        taken = self._arguments
        if not kwargs and taken.plain and len(args) == len(taken.inputs) and not taken.in_one_mapping(args):
            answers = self._program(args)
        else:
            answers = self._program(*taken.bind(args, kwargs))
        return answers[0] if type(self._nest) is str else refill(self._nest, answers)

    @cached_property
    def function(self) -> Any:
        """The `tf.function` to call inside other TensorFlow code; a `GradientTape` sees our derivative."""
        return as_tf_function(self.__call__)

    def to_keras(self, weights: Any = (), *, inputs: Any = None, **options: Any) -> Any:
        """The formula as a layer of Keras: some of its symbols are weights, the others are the inputs.

        Args:
            weights: symbols, bases or names with their initial values: `{a: 1.0, w: np.zeros(3)}`; none by default.
            inputs: the others in the order in which the layer takes them; sorted by name by default.
            options: of every layer: `name`, `trainable`, `dtype` (that of this function by default).

        Returns:
            A `sym2tf.keras.ExpressionLayer`; a program that loads a model with it imports `sym2tf.keras` first.

        Raises:
            ArgumentError: this is a derivative or a nest of several outputs; or a weight or input that is not there.
        """
        if self.expr is None or is_nest(self.expr):
            what = "a derivative" if self.expr is None else "a nest of several outputs"
            raise ArgumentError(f"a layer is made of one expression, and this is {what}")
        return _layers.ExpressionLayer(self.expr, weights, inputs, **{"dtype": self.dtype, **options})

    @cached_property
    def _program(self) -> Program:
        real = {n: v for n, v in self.lowered.outputs.items() if self.lowered[v].type.kind >= Kind.REAL}
        inputs = [v for v in self.lowered.inputs if self.lowered[v].type.kind >= Kind.REAL]

        def pullback() -> Program:
            outputs = {name: self._smooth.outputs[name] for name in real}
            graph = Graph(self._smooth.nx, self._smooth.inputs, outputs, self._smooth.info)
            pulled = derivatives.vjp(graph, [self._at(v) for v in inputs])
            return self.derived(pulled, tuple(pulled.outputs), "vjp")._program

        return Program(
            self.graph,
            dtype=self.dtype,
            jit=self.jit,
            name=self.name,
            title=self.title,
            pullback=pullback if self._taped and real and inputs else None,
            replan=self._replan if self.report.ordered else None,
        )

    def _replan(self, sizes: Mapping[str, int]) -> Graph | None:
        """The graph with contractions in the best order for axes about as long as `sizes`; None where none changes."""
        graph, _ = optimize(self.lowered, level=self.level, jit=self.jit, sizes=sizes)
        return None if same_operations(graph, self.graph) else graph

    def bound(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, int]]:
        """The inputs by name, and the sizes that were given, from the arguments of a call.

        Raises:
            ArgumentError: missing, unknown or repeated arguments.
        """
        values, sizes = self._arguments.bind(args, kwargs)
        return dict(zip(self._arguments.inputs, values, strict=True)), sizes

    # Derivatives -------------------------------------------------------------------------------------------------

    def gradient(self, *variables: Any, wrt: Any = None) -> CompiledFunction:
        """The gradient at each point of the batch.

        Args:
            variables: an input (symbol, base or name) gives one output of its core shape, an element such as `w[0]` a
                scalar; several, a list or tuple of them, or nothing for all real inputs, a tuple in that order.
            wrt: the same by name.

        Raises:
            DifferentiationError: an output is not scalar (use `jacobian`), or there is no derivative.
        """
        return self._derivative(derivatives.gradient, chosen(variables, wrt), "gradient", self._nested)

    def gradient_expr(self, *variables: Any, wrt: Any = None) -> Any:
        """The gradient as a SymPy expression, to be read, in the nest that `gradient` returns.

        Where all tensors are matrices it is a matrix expression (`2*X.T*(X*w - y)`), otherwise its element at free
        indices `i`, `j`, ... of the input's axes. Arguments as for `gradient`.

        Raises:
            DifferentiationError: an output is not scalar, or there is no derivative.
            ResourceLimitError: the expression would be too large to read.
            GraphError: an operation for which SymPy has no notation.
        """
        source, nest = self._source(chosen(variables, wrt))
        graph = source.finished(derivatives.gradient(source.graph, list(source.wrt)))
        raised = raise_to_sympy(normalize(graph, level=self.level))
        return map_nest(lambda name, path: raised[name], self._nested(nest))

    def value_and_gradient(self, *variables: Any, wrt: Any = None) -> CompiledFunction:
        """`(value, gradient)` from one graph that shares what they have in common."""

        def outputs(nest: Any) -> Any:
            return self._nest, map_nest(lambda leaf, path: f"d/{leaf}", self._nested(nest))

        both = partial(derivatives.gradient, values=True)
        return self._derivative(both, chosen(variables, wrt), "value_and_gradient", outputs)

    @overload
    def jacobian(
        self, *variables: Any, wrt: Any = None, sparse: Literal[False] = False, compressed: Literal[False] = False
    ) -> CompiledFunction: ...
    @overload
    def jacobian(
        self, *variables: Any, wrt: Any = None, sparse: Literal[True], compressed: Literal[False] = False
    ) -> SparseDerivative: ...
    @overload
    def jacobian(
        self, *variables: Any, wrt: Any = None, sparse: Literal[False] = False, compressed: Literal[True]
    ) -> CompressedDerivative: ...
    def jacobian(
        self, *variables: Any, wrt: Any = None, sparse: bool = False, compressed: bool = False
    ) -> CompiledFunction | SparseDerivative | CompressedDerivative:
        """The derivative of every output element by every input element: core axes of the output, then of the input.

        Args:
            variables: as for `gradient`.
            wrt: as for `gradient`.
            sparse: only the entries that can be nonzero, with their places; see `SparseDerivative`.
            compressed: only the factors that it is a product of; see `FactoredMatrix`.
        """
        wrt = chosen(variables, wrt)
        if sparse or compressed:
            source, nest = self._source(wrt)
            if one_of(sparse=sparse, compressed=compressed) == "sparse":
                return SparseDerivative(self, source, self._nested(nest), "jacobian")
            return CompressedDerivative(self, source, self._nested(nest), "jacobian")
        return self._derivative(derivatives.jacobian, wrt, "jacobian", self._nested)

    @overload
    def hessian(
        self, *variables: Any, wrt: Any = None, sparse: Literal[False] = False, compressed: Literal[False] = False
    ) -> CompiledFunction: ...
    @overload
    def hessian(
        self, *variables: Any, wrt: Any = None, sparse: Literal[True], compressed: Literal[False] = False
    ) -> SparseDerivative: ...
    @overload
    def hessian(
        self, *variables: Any, wrt: Any = None, sparse: Literal[False] = False, compressed: Literal[True]
    ) -> CompressedDerivative: ...
    def hessian(
        self, *variables: Any, wrt: Any = None, sparse: bool = False, compressed: bool = False
    ) -> CompiledFunction | SparseDerivative | CompressedDerivative:
        """The second derivatives of a scalar; for several inputs a nest of nests, one for each pair.

        Args:
            variables: as for `gradient`.
            wrt: as for `gradient`.
            sparse: only the entries that can be nonzero, with their places; see `SparseDerivative`.
            compressed: only the factors that it is a product of; see `FactoredMatrix`.
        """

        def outputs(nest: Any) -> Any:
            return map_nest(lambda leaf, path: numbered(nest, leaf), self._nested(nest))

        wrt = chosen(variables, wrt)
        if sparse or compressed:
            source, nest = self._source(wrt)
            if one_of(sparse=sparse, compressed=compressed) == "sparse":
                return SparseDerivative(self, source.gradient(), outputs(nest), "hessian")
            return CompressedDerivative(self, source, outputs(nest), "hessian")
        return self._derivative(derivatives.hessian, wrt, "hessian", outputs)

    def jvp(self, *variables: Any, wrt: Any = None) -> CompiledFunction:
        """The derivative along tangents, which are arguments after the primals, one for each of `wrt`."""
        return self._derivative(derivatives.jvp, chosen(variables, wrt), "jvp", lambda nest: self._nest)

    def vjp(self, *variables: Any, wrt: Any = None) -> CompiledFunction:
        """The cotangents of `wrt`, from those of the outputs, which are arguments after the primals, in order."""
        return self._derivative(derivatives.vjp, chosen(variables, wrt), "vjp", lambda nest: numbered(nest, ""))

    def hvp(self, *variables: Any, wrt: Any = None) -> CompiledFunction:
        """The Hessian times a vector: arguments after the primals, one for each of `wrt`; no Hessian is formed."""
        return self._derivative(derivatives.hvp, chosen(variables, wrt), "hvp", self._nested)

    def _derivative(
        self, differentiate: Callable[[Graph, list[int]], Graph], wrt: Any, kind: str, outputs: Callable[[Any], Any]
    ) -> CompiledFunction:
        """The function of a derivative; `outputs` makes the nest of its outputs from that of `wrt`."""
        source, nest = self._source(wrt)
        return self.derived(source.finished(differentiate(source.graph, list(source.wrt))), outputs(nest), kind)

    def _source(self, wrt: Any) -> tuple[Source, Any]:
        """What is differentiated by what, and the nest of `wrt`."""
        found, nest = resolve(wrt, self.lowered, self._arguments.names, self.name)
        graph, shifts = with_shifts(self._smooth, [(self._at(v), e) for v, e in found if e])
        new = iter(shifts)
        inputs = [next(new) if e else graph.inputs[self.lowered.inputs.index(v)] for v, e in found]
        reaches = [
            (input_name(self.lowered[v]), k - len(e), at + 1) for v, e in found for k, at in enumerate(e)
        ]  # the data must have the elements
        left = [self.lowered[v].type.shape[k] - at - 1 for v, e in found for k, at in enumerate(e)]
        extents = tuple(d for d in left if not isinstance(d, int))
        return Source(
            graph, tuple(inputs), frozenset(input_name(graph[v]) for v in shifts), tuple(reaches), extents
        ), nest

    @cached_property
    def _smooth(self) -> Graph:
        """What is differentiated: the lowered graph after the rules alone."""
        return stabilize(self.lowered, level=self.level)

    def _at(self, v: int) -> int:
        """Where an input of the lowered graph stands in the one that is differentiated."""
        return self._smooth.inputs[self.lowered.inputs.index(v)]

    def derived(self, graph: Graph, outputs: Any, kind: str) -> CompiledFunction:
        """The function of a graph that was made from this one's, compiled in the same way.

        Args:
            graph: may have further inputs; they become arguments after those of this function.
            outputs: the nest of names that a call returns.
            kind: for its name.
        """
        known = set(self._arguments.names)
        added = (n for n in (input_name(graph[v]) for v in graph.inputs) if n not in known)
        info = {**graph.info, "args": (*self.arguments, *added), "outputs": outputs}
        graph = Graph(graph.nx, graph.inputs, graph.outputs, info)
        return CompiledFunction(
            graph,
            dtype=self.dtype,
            jit=self.jit,
            level=self.level,
            name=f"{self.name}_{kind}",
            title=f"{kind.replace('_', ' ')} of {self.title}",
            taped=self._taped,
        )

    def _nested(self, nest: Any) -> Any:
        """The outputs, each replaced by the nest of its derivatives."""
        return map_nest(lambda leaf, path: numbered(nest, leaf), self._nest)

    # Verification ------------------------------------------------------------------------------------------------

    def check(self, **options: Any) -> CheckReport:
        """Compare values with mpmath and derivatives with `GradientTape` and finite differences; see `sym2tf.check`."""
        return checking.check_function(self, **options)


def _explained(name: str, symbol: Any) -> str:
    """The name of an argument, and what it stands for where it had to be called otherwise."""
    if isinstance(symbol, sp.MatrixBase):
        return f"{name} = {symbol}"
    renamed = isinstance(symbol, sp.Basic) and leaf_name(symbol) != name
    return f"{name} = {sp.srepr(symbol)}" if renamed else name


def _core(node: Node) -> str:
    return f"({','.join(map(str, node.type.shape))})"


def _title(expr: Any) -> str:
    if not is_nest(expr):
        return describe(expr, 100)
    return str(map_nest(lambda leaf, path: describe(leaf, 60), expr))[:100]


def _dtype_name(dtype: Any) -> str:
    name = dtype if isinstance(dtype, str) else getattr(dtype, "name", None) or getattr(dtype, "__name__", str(dtype))
    if name == "float":
        name = "float64"
    if name in REAL_DTYPES:
        return str(name)
    if name in FORMATS:
        raise DtypeError(f"{name}: complex functions are not supported yet")
    raise DtypeError(f"unknown dtype {dtype!r}; use one of {', '.join(REAL_DTYPES)}")
