"""Generated code as something to call: traced once per pattern of ranks, thread-safe, differentiable with our rules."""

from __future__ import annotations

import functools
import itertools
import linecache
import os
import re
import sys
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sym2tf.backends.sizes import batch_shape, core_shape, input_types
from sym2tf.backends.tensorflow.conversion import Converter
from sym2tf.backends.tensorflow.source import Source, generate_source
from sym2tf.errors import (
    DtypeError,
    ForkedProcessError,
    JitError,
    ShapeError,
    SingularMatrixError,
    SizeError,
    SubscriptError,
)
from sym2tf.frontend.describe import describe
from sym2tf.ir.binding import Axis, Binding
from sym2tf.ir.dims import evaluate_size, size_names
from sym2tf.ir.graph import Graph
from sym2tf.ir.types import Kind
from sym2tf.lazy import lazy
from sym2tf.ops.linalg import inverse, lu_factor, solve
from sym2tf.passes.contraction import same_operations
from sym2tf.trees import leaves

tf = lazy("tensorflow")
_record = lazy("tensorflow.python.eager.record")
_numbers = itertools.count(1)
_MOST_PLANS = 200  # patterns of sizes for which a better order was looked for
_forked = False


def _after_fork() -> None:
    global _forked  # noqa: PLW0603  what a fork leaves behind is a state of the process
    _forked = "tensorflow" in sys.modules


os.register_at_fork(after_in_child=_after_fork)


def as_tf_function(call: Callable[..., Any]) -> Any:
    """`call` as a `tf.function`, traced again only where ranks or dtypes change."""
    return tf.function(call, autograph=False, reduce_retracing=True)


def require_jit(graph: Graph) -> None:
    """Refuse XLA where it is known to fail.

    Raises:
        JitError: names each operation that XLA cannot compile or computes badly, and why.
    """
    rows = {graph[v].op.name: graph[v].op.tf for v in graph.order}
    reasons = {name: row.xla for name, row in rows.items() if row is not None and row.xla}
    if reasons:
        listed = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        raise JitError(f"jit=True is refused for {listed}")


def require_kernels(graph: Graph, dtype: str) -> None:
    """Refuse a dtype for which TensorFlow has no kernel of an operation.

    Raises:
        DtypeError: names the operations and the dtypes that they have.
    """
    rows = {graph[v].op.name: graph[v].op.tf for v in graph.order}
    missing = {
        name: tf_op.dtypes for name, tf_op in rows.items() if tf_op and tf_op.dtypes and dtype not in tf_op.dtypes
    }
    if missing:
        listed = "; ".join(f"{name} (it has {', '.join(dtypes)})" for name, dtypes in missing.items())
        raise DtypeError(f"TensorFlow has no {dtype} kernel for {listed}")


class Program:
    """A graph that runs on TensorFlow.

    Args:
        graph: what to run.
        dtype: of real values.
        jit: compile with XLA.
        pullback: makes the program of the vector-Jacobian product (primals, then cotangents of the real outputs);
            called the first time that a `GradientTape` asks.
        replan: gives the graph that is better for axes about as long as it is told, or None for the same graph.
        name, title: for the source.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        dtype: str = "float64",
        jit: bool = False,
        pullback: Callable[[], Program] | None = None,
        replan: Callable[[Mapping[str, int]], Graph | None] | None = None,
        name: str = "f",
        title: str = "",
    ) -> None:
        if jit:
            require_jit(graph)
        require_kernels(graph, dtype)
        self.graph, self.dtype, self.jit = graph, dtype, jit
        self.source = generate_source(graph, dtype=dtype, name=name, title=title)
        self.types = input_types(graph)
        self.binding = Binding(graph)
        self._own_traces = 0
        self._name, self._title = name, title
        self._replan = replan
        self._variants: dict[tuple[int, ...], Program] = {}
        self._pullback_maker = pullback
        self._pullback: Program | None = None
        self._lock = threading.RLock()
        self._traced: dict[Any, Any] = {}
        self._python = load(self.source)
        self.converters = [Converter(n, t.kind, dtype) for n, t in self.types.items()]
        self._cores = [t.rank for t in self.types.values()]
        self._sized = any(self._cores) or bool(self.binding.required)
        self._size_names = list(self.source.sizes.values())

    def __call__(self, values: Sequence[Any], sizes: Mapping[str, int] | None = None) -> list[Any]:
        """The outputs as tensors, in order.

        Args:
            values: one for each input, in order: numbers, arrays, tensors or variables.
            sizes: numbers for sizes; the others are bound by the data.

        Raises:
            ShapeError, SizeError: shapes that do not fit; DtypeError, ArgumentError: values that are no numbers.
            ForkedProcessError: in a child forked after TensorFlow was loaded.
        """
        if _forked:
            raise ForkedProcessError(
                "TensorFlow does not survive fork: use multiprocessing.get_context('spawn'), "
                "or import and compile in the child"
            )
        tensors = [convert(value) for convert, value in zip(self.converters, values, strict=True)]
        extra: list[Any] = []
        if self._sized:
            tensors, extra, bound = self._fit(tensors, sizes or {})
            if self._replan is not None and bound:
                variant = self._variant(bound)
                if variant is not self:
                    return variant(tensors, sizes)
        if not tf.executing_eagerly():
            return self.differentiable(*tensors, *extra)
        try:
            if _record.could_possibly_record():
                return self.differentiable(*tensors, *extra)
            answers: list[Any] = self._concrete(tensors)(*tensors, *extra)
        except tf.errors.InvalidArgumentError as error:
            self._explain(tensors, str(error))
            raise
        return answers

    @property
    def traces(self) -> int:
        """How often TensorFlow has traced it, or a variant of it for other sizes."""
        return self._own_traces + sum(p.traces for p in set(self._variants.values()) if p is not self)

    def _variant(self, sizes: Mapping[str, int]) -> Program:
        """The program that is best for `sizes`, to a factor of two in each; data of like sizes share one."""
        key = tuple(sizes.get(name, 0).bit_length() for name in self.binding.names)
        found = self._variants.get(key)
        return found if found is not None else self._planned(key)

    def _planned(self, key: tuple[int, ...]) -> Program:
        with self._lock:
            if key not in self._variants:
                assert self._replan is not None
                enough = len(self._variants) >= _MOST_PLANS
                typical = {name: 3 * 2**bits // 4 for name, bits in zip(self.binding.names, key, strict=True)}
                graph = None if enough else self._replan(typical)
                self._variants[key] = self if graph is None else self._like(graph)
            return self._variants[key]

    def _like(self, graph: Graph) -> Program:
        """The program of another graph for the same function; equal graphs share one."""
        for program in self._variants.values():
            if same_operations(program.graph, graph):
                return program
        options: dict[str, Any] = {"dtype": self.dtype, "jit": self.jit, "name": self._name, "title": self._title}
        return Program(graph, pullback=self._pullback_maker, **options)

    def differentiable(self, *tensors: Any) -> list[Any]:
        """The outputs, recorded on any watching tape with sym2tf's own derivative."""
        count = len(self.types)
        if self._pullback_maker is None:
            return self._forward(tensors)
        primals, extra = tensors[:count], tensors[count:]
        return list(_with_gradient(self, extra)(*primals)) if primals else self._forward(tensors)

    @property
    def pullback(self) -> Program:
        """The program of the vector-Jacobian product."""
        with self._lock:
            if self._pullback is None:
                assert self._pullback_maker is not None
                self._pullback = self._pullback_maker()
            return self._pullback

    def flat(self, *tensors: Any) -> list[Any]:
        """The generated function on tensors, inputs first, required sizes after them; outputs in order."""
        count = len(self.types)
        sizes = dict(zip(self._size_names, tensors[count:], strict=True))
        return list(leaves(self._python(*tensors[:count], **sizes)))

    def _forward(self, tensors: Sequence[Any]) -> list[Any]:
        if tf.executing_eagerly():
            answers: list[Any] = self._concrete(tensors[: len(self.types)])(*tensors)
            return answers
        if self.jit:
            jitted: list[Any] = tf.function(self.flat, autograph=False, jit_compile=True)(*tensors)
            return jitted
        return self.flat(*tensors)

    def _concrete(self, tensors: Sequence[Any]) -> Any:
        key = tuple([len(t.shape) for t in tensors])
        concrete = self._traced.get(key)
        return concrete if concrete is not None else self._trace(key, tensors)

    def _trace(self, key: tuple[int, ...], tensors: Sequence[Any]) -> Any:
        with self._lock:
            if key not in self._traced:
                specs = [tf.TensorSpec([None] * len(t.shape), t.dtype) for t in tensors]
                # a parameter named otherwise than in the source would make Grappler order some products otherwise
                flat = functools.wraps(self._python)(lambda *xs, **sizes: self.flat(*xs, *sizes.values()))
                function = tf.function(flat, autograph=False, jit_compile=True if self.jit else None)
                sized = {s: tf.TensorSpec([], tf.int64, name=s) for s in self._size_names}
                self._traced[key] = function.get_concrete_function(*specs, **sized)
                self._own_traces += 1
            return self._traced[key]

    def _fit(self, tensors: list[Any], given: Mapping[str, int]) -> tuple[list[Any], list[Any], Mapping[str, int]]:
        """Check core shapes, cut prefixes, and hand out the sizes that no data determine, and all that are known."""
        shapes = {}
        for (name, type_), tensor in zip(self.types.items(), tensors, strict=True):
            if tensor.shape.rank is None:
                raise ShapeError(f"{name} has unknown rank: set its shape, at least the number of axes")
            core_shape(name, type_, tensor.shape.as_list())
            shapes[name] = tuple(tensor.shape.as_list())
        if all(d is not None for s in shapes.values() for d in s):
            sizes = self.binding.bind(shapes, given)
            self._refuse_loose(shapes, given)
            if given:
                tensors = [self._prefix(t, type_, sizes) for t, type_ in zip(tensors, self.types.values(), strict=True)]
            return tensors, [tf.constant(sizes[s], tf.int64) for s in self.source.sizes], sizes
        return *self._fit_dynamic(tensors, given), {}

    def _refuse_loose(self, shapes: Mapping[str, tuple[int, ...]], given: Mapping[str, int]) -> None:
        """Generated code takes a size from the data that determine it, and a prefix only says the length of an axis."""
        sources = self.binding.sources
        loose = [n for n in given if n in self.binding.used and n in sources and not sources[n][0].exact]
        due = self.binding.bind(shapes, {n: v for n, v in given.items() if n not in loose}) if loose else given
        for name in loose:
            if given[name] != due[name]:
                data = sources[name][0].input
                raise SizeError(
                    f"{name} = {given[name]} cannot be given here, where {data} has other ranges too: "
                    f"{name} = {due[name]} by the length of {data}; pass shorter data"
                )

    def _fit_dynamic(self, tensors: list[Any], given: Mapping[str, int]) -> tuple[list[Any], list[Any]]:
        """The same inside the caller's graph where lengths are not known yet: TensorFlow compares them when it runs.

        Without the comparison a length of 1 would broadcast, and a prefix would be the whole.
        """
        lengths = {
            (name, k - type_.rank): tensor.shape[k - type_.rank]
            if tensor.shape[k - type_.rank] is not None
            else tf.shape(tensor, out_type=tf.int64)[k - type_.rank]
            for (name, type_), tensor in zip(self.types.items(), tensors, strict=True)
            for k in range(type_.rank)
        }
        sizes: dict[str, Any] = dict(given)
        for name, (axis, slope, offset) in self.binding.sources.items():
            if name not in sizes:
                sizes[name] = (lengths[axis.input, axis.axis] - evaluate_size(offset, sizes)) // slope
        missing = [s for s in self.binding.required if s not in sizes]
        if missing:
            raise SizeError(f"no data determine {', '.join(missing)}: pass {missing[0]}=... by keyword")
        checks = [c for axis in self.binding.axes if (c := self._compared(axis, lengths, sizes, given)) is not None]
        with tf.control_dependencies(checks):
            fitted = [
                tensor[(..., *(slice(0, evaluate_size(d, sizes)) for d in type_.shape))]
                if any(size_names(d) & set(given) for d in type_.shape)
                else tf.identity(tensor)
                if checks
                else tensor
                for tensor, type_ in zip(tensors, self.types.values(), strict=True)
            ]
        return fitted, [tf.convert_to_tensor(sizes[s], tf.int64) for s in self.source.sizes]

    def _compared(self, axis: Axis, lengths: Mapping[Any, Any], sizes: Mapping[str, Any], given: Any) -> Any:
        """An assertion that the data have the length due on `axis`; None where that is certain."""
        source = [s for s, (own, slope, _) in self.binding.sources.items() if own == axis and slope == 1]
        if source and source[0] not in given and axis.exact:
            return None
        prefix = not axis.exact or bool(size_names(axis.length) & set(given))
        compare = tf.debugging.assert_greater_equal if prefix else tf.debugging.assert_equal
        length, due = (
            tf.convert_to_tensor(d, tf.int64)
            for d in (lengths[axis.input, axis.axis], evaluate_size(axis.length, sizes))
        )
        message = f"{axis.input} has the wrong length on core axis {axis.axis}: {axis.length} elements are needed"
        return compare(length, due, message=message)

    def _prefix(self, tensor: Any, type_: Any, sizes: Mapping[str, int]) -> Any:
        due = [evaluate_size(d, sizes) for d in type_.shape]
        if due == tensor.shape.as_list()[len(tensor.shape) - len(due) :]:
            return tensor
        return tensor[(..., *(slice(0, d) for d in due))]

    def _explain(self, tensors: Sequence[Any], message: str) -> None:
        """Raise the error that names inputs or expressions, if it is shapes, subscripts or matrices that are wrong."""
        shapes = {n: tuple(t.shape.as_list()) for n, t in zip(self.types, tensors, strict=True)}
        batch_shape(self.types, shapes)
        outside = _OUTSIDE.search(message)
        if outside is not None:
            integers = [name for name, type_ in self.types.items() if type_.kind is Kind.INTEGER]
            data = f": it comes from {' or '.join(integers)}" if integers else ""
            raise SubscriptError(f"subscript {outside[1]} of an axis of length {outside[2]}{data}") from None
        if "not invertible" in message:
            nodes = [self.graph[v] for v in self.graph.order]
            where = dict.fromkeys(describe(n.origin) for n in nodes if n.op in _INVERTING and n.origin is not None)
            told = f", in {' or '.join(where)}" if where else ""
            raise SingularMatrixError(f"a matrix to be inverted is exactly singular{told}") from None


_INVERTING = (inverse, solve, lu_factor)
_OUTSIDE = re.compile(r"indices(?:\[[^]]*\])? = \[?(-?\d+)\]? (?:is not in \[0, |does not index into shape \[)(\d+)")


def load(source: Source) -> Callable[..., Any]:
    """The function that generated source defines; tracebacks and `inspect.getsource` show its text."""
    filename = f"<sym2tf {source.function} {next(_numbers)}>"
    namespace: dict[str, Any] = {"__name__": "sym2tf.generated"}
    getattr(tf, "constant")  # noqa: B009  import TensorFlow quietly before the generated code does
    exec(compile(source.text, filename, "exec"), namespace)  # noqa: S102  text of our own making
    linecache.cache[filename] = (len(source.text), None, source.text.splitlines(keepends=True), filename)
    function: Callable[..., Any] = namespace[source.function]
    weakref.finalize(function, linecache.cache.pop, filename, None)
    return function


def _with_gradient(program: Program, extra: Sequence[Any]) -> Callable[..., Any]:
    """`program` as a function of its inputs with our derivative; `extra` are sizes."""
    kinds = [t.kind for t in program.types.values()]

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def call(*primals: Any) -> Any:
        answers = program._forward((*primals, *extra))
        real = [k for k, a in enumerate(answers) if a.dtype.is_floating]

        def pull_back(*cotangents: Any) -> list[Any]:
            # without identity the second order of a gradient inside a tf.function leaves the function's scope
            inner = [tf.identity(p) for p in primals]
            seeds = [_of_rank(cotangents[k], answers[k].shape) for k in real]
            found = iter(program.pullback.differentiable(*inner, *seeds, *extra))
            return [
                sum_to_shape(next(found), p) if kind >= Kind.REAL else None
                for kind, p in zip(kinds, inner, strict=True)
            ]

        return answers, pull_back

    return call


def _of_rank(cotangent: Any, shape: Any) -> Any:
    """The cotangent as a tensor of known rank: `tape.jacobian` hands out some whose shape TensorFlow has lost."""
    tensor = tf.convert_to_tensor(cotangent)
    return tf.ensure_shape(tensor, shape) if tensor.shape.rank is None else tensor


def sum_to_shape(cotangent: Any, primal: Any) -> Any:
    """Reduce a cotangent with the full batch shape to the shape of the operand that it belongs to."""
    known = cotangent.shape.is_fully_defined() and primal.shape.is_fully_defined()
    if known and cotangent.shape == primal.shape:
        return cotangent
    axes, _ = tf.raw_ops.BroadcastGradientArgs(s0=tf.shape(primal), s1=tf.shape(cotangent))
    return tf.reshape(tf.reduce_sum(cotangent, axes), tf.shape(primal))
