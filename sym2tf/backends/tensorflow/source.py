"""Graph to Python source: readable, stand-alone TensorFlow code, one assignment for each node.

The text is printed from `ast` nodes that hold identifiers of our own making, numbers, and string constants; nothing
that the user wrote is ever spliced into it.
"""

from __future__ import annotations

import ast
import inspect
import math
import operator
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

from sym2tf.backends.constants import constant_nodes, constant_values, dtype_of, rounded_numbers
from sym2tf.backends.tensorflow import prelude
from sym2tf.backends.tensorflow.direct import emit
from sym2tf.backends.tensorflow.identifiers import Names
from sym2tf.collection import collection_paused
from sym2tf.frontend.describe import describe, is_small
from sym2tf.ir.binding import Binding
from sym2tf.ir.dims import Dim, Size, size_names
from sym2tf.ir.graph import Graph, Node
from sym2tf.ir.types import Kind
from sym2tf.ops.leaves import Exact, input_, size
from sym2tf.trees import leaves

_REMARK = 4  # sub-expressions with more nodes than this get a comment
_WIDTH = 100
_MANY = 1024  # inputs of which we know for each node whether it depends on them
_CHAIN = 16  # operands of one infix chain; longer sums continue in the next line
_PRELUDE = {name: f for name, f in vars(prelude).items() if inspect.isfunction(f) and f.__module__ == prelude.__name__}


@dataclass(frozen=True)
class Source:
    """Generated code.

    Attributes:
        text: a whole module; needs only TensorFlow.
        function: name of the function in it.
        inputs: input name -> parameter, in order.
        sizes: size name -> keyword-only parameter, for sizes that no data determine.
    """

    text: str
    function: str
    inputs: dict[str, str]
    sizes: dict[str, str]

    def __str__(self) -> str:
        return self.text


@collection_paused()
def generate_source(graph: Graph, *, dtype: str = "float64", name: str = "f", title: str = "") -> Source:
    """The source of a function that evaluates `graph`.

    Args:
        graph: usually an optimised one.
        dtype: of real values.
        name: a name for the function.
        title: what the docstring says, the original expression, say.

    Raises:
        DtypeError: a constant that the dtype cannot hold.
    """
    return _Writer(graph, dtype, name, title).source()


class AstEmitter:
    """Implements `sym2tf.ir.op.Emitter` by building expressions."""

    def __init__(self, dtype: str, sizes: Mapping[str, str]) -> None:
        self.dtype_name = dtype
        self.sizes = sizes
        self.used: dict[str, None] = {}
        self.sizes_used: set[str] = set()

    def call(self, function: str, *args: Any, **keywords: Any) -> ast.expr:
        """A call of a TensorFlow or prelude function."""
        if function in _PRELUDE:
            self.used[function] = None
        return ast.Call(
            _dotted(function),
            [_expression(a) for a in args],
            [ast.keyword(k, _expression(v)) for k, v in keywords.items()],
        )

    def infix(self, symbol: str, left: Any, right: Any) -> ast.expr:
        """A Python operator."""
        left, right = _expression(left), _expression(right)
        if symbol in _COMPARE:
            return ast.Compare(left, [_COMPARE[symbol]()], [right])
        return ast.BinOp(left, _BINARY[symbol](), right)

    def subscript(self, value: Any, axis: int, start: Any, stop: Any) -> ast.expr:
        """A slice of one axis."""
        items = [
            ast.Constant(...),
            ast.Slice(_expression(start), _expression(stop)),
            *(ast.Slice() for _ in range(-axis - 1)),
        ]
        return ast.Subscript(_expression(value), ast.Tuple(items, ast.Load()), ast.Load())

    def size(self, size: Size) -> ast.expr:
        """A size as arithmetic on the parameters and lengths that the code has."""
        if not isinstance(size, Dim):
            return ast.Constant(size)
        self.sizes_used |= size_names(size)
        total: ast.expr | None = None
        for monomial, coefficient in size.terms:
            factors: list[ast.expr] = [_name(self.sizes[n]) for n in monomial]
            if abs(coefficient) != 1 or not factors:
                factors.insert(0, ast.Constant(abs(coefficient)))
            term = reduce(lambda a, b: ast.BinOp(a, ast.Mult(), b), factors)
            if total is None:
                total = ast.UnaryOp(ast.USub(), term) if coefficient < 0 else term
            else:
                total = ast.BinOp(total, ast.Sub() if coefficient < 0 else ast.Add(), term)
        return total if total is not None else ast.Constant(0)

    def dtype(self, kind: Kind) -> ast.expr:
        """The TensorFlow dtype of values of `kind`."""
        return _dotted(f"tf.{dtype_of(kind, self.dtype_name)}")

    def shape(self, sizes: tuple[Any, ...]) -> ast.expr:
        """Several sizes or axes."""
        return ast.List([self.size(d) for d in sizes], ast.Load())

    def numbers(self, values: tuple[Exact, ...], kind: Kind) -> ast.expr:
        """Exact numbers, rounded."""
        return ast.List([_number(x) for x in rounded_numbers(values, kind, self.dtype_name)], ast.Load())


class _Writer:
    """Writes one function."""

    def __init__(self, graph: Graph, dtype: str, name: str, title: str) -> None:
        self.graph, self.dtype, self.title = graph, dtype, title
        self.names = Names(["tf", *_PRELUDE])
        self.function = self.names.new(name, "f")
        self.binding = Binding(graph)
        self.inputs = {
            str(graph[v].attributes["name"]): self.names.new(graph[v].attributes["name"], "x") for v in graph.inputs
        }
        self.size_names = {s: self.names.new(s, "n") for s in sorted(self.binding.used)}
        self.emitter = AstEmitter(dtype, self.size_names)
        self.constants = constant_values(graph, dtype)
        self.inside = constant_nodes(graph)
        self.where: dict[int, ast.expr] = {}
        self.lines: list[str] = []
        self.hoisted: dict[tuple[Any, Kind], str] = {}
        self.top: list[str] = []
        self.comment = ""

    def source(self) -> Source:
        self._parameters()
        for v in self.graph.order:
            if v not in self.inside:
                self._assign(v)
        self._return()
        required = {s: self.size_names[s] for s in self.binding.required}
        return Source(self._module(required), self.function, self.inputs, required)

    def _parameters(self) -> None:
        for v in self.graph.inputs:
            node = self.graph[v]
            parameter = self.inputs[node.attributes["name"]]
            converted = self.emitter.call("tf.convert_to_tensor", _name(parameter), self.emitter.dtype(node.type.kind))
            self.top.append(_statement(parameter, converted))
            self.where[v] = _name(parameter)
        for s in self.binding.required:
            parameter = self.size_names[s]
            value = self.emitter.call("tf.convert_to_tensor", _name(parameter), self.emitter.dtype(Kind.INTEGER))
            self.top.append(_statement(parameter, value))

    def _lengths(self) -> list[str]:
        """The sizes that the code uses, from the shapes of the data."""
        lines = []
        needed = self.binding.with_origins(self.emitter.sizes_used)
        for s, (axis, slope, offset) in self.binding.sources.items():
            if s not in needed:
                continue
            shape = self.emitter.call("tf.shape", _name(self.inputs[axis.input]), out_type=_dotted("tf.int64"))
            length: ast.expr = ast.Subscript(shape, ast.Constant(axis.axis), ast.Load())
            if isinstance(offset, Dim):
                length = ast.BinOp(length, ast.Sub(), self.emitter.size(offset))
            elif offset:
                length = ast.BinOp(length, ast.Sub() if offset > 0 else ast.Add(), ast.Constant(abs(offset)))
            if slope != 1:
                length = ast.BinOp(length, ast.FloorDiv(), ast.Constant(slope))
            lines.append(_statement(self.size_names[s], length))
        return lines

    def _assign(self, v: int) -> None:
        node = self.graph[v]
        if node.op is input_:
            return
        operands = self.graph.operands(v)
        if node.op is size:
            value: ast.expr = self.emitter.size(node.attributes["size"])
            if isinstance(value, ast.Name):
                self.where[v] = value
                return
        else:
            infix = node.op.tf is not None and bool(node.op.tf.infix) and node.op.tf.form is None
            xs = [self._operand(u, literal=infix and not self._clash(operands, k)) for k, u in enumerate(operands)]
            if node.op.arity is None and infix and len(xs) > _CHAIN:
                xs = self._chained(node, xs)
            value = emit(self.emitter, node.op, xs, node.attributes)
        name = self.names.new(self._wish(node, operands), "t")
        self._remark(node)
        self.lines.append(_statement(name, value))
        self.where[v] = _name(name)

    def _clash(self, operands: Sequence[int], k: int) -> bool:
        """Whether operand k must be a tensor because nothing before it in the chain is one."""
        return k < 2 and all(u in self.inside for u in operands[: max(2, k)])

    def _chained(self, node: Node, xs: list[ast.expr]) -> list[ast.expr]:
        """Long sums go over several lines; the first ones are assigned here."""
        part = self.names.new(node.op.name + "_part")
        while len(xs) > _CHAIN:
            self.lines.append(_statement(part, emit(self.emitter, node.op, xs[:_CHAIN], {})))
            xs = [_name(part), *xs[_CHAIN:]]
        return xs

    def _operand(self, u: int, *, literal: bool) -> ast.expr:
        if u not in self.inside:
            return self.where[u]
        value, kind = self.constants[u], self.graph[u].type.kind
        if literal and kind is not Kind.BOOLEAN and math.isfinite(value):
            return ast.Constant(value)
        return self._constant(value, kind)

    def _constant(self, value: Any, kind: Kind) -> ast.expr:
        key = (repr(value), kind)
        if key not in self.hoisted:
            name = self.names.new(_constant_name(value), "c")
            number = self.emitter.call("tf.constant", _number(value), self.emitter.dtype(kind))
            self.top.append(_statement(name, number))
            self.hoisted[key] = name
        return _name(self.hoisted[key])

    def _wish(self, node: Node, operands: Sequence[int]) -> str:
        inner = [self.where[u] for u in operands if u in self.where]
        if len(operands) == 1 and inner and isinstance(inner[0], ast.Name) and len(inner[0].id) <= 12:
            return f"{node.op.name}_{inner[0].id}"
        return node.op.name

    def _remark(self, node: Node) -> None:
        """Name the larger sub-expressions: the lines up to the next comment compute them."""
        origin = node.origin
        if origin is None or not getattr(origin, "args", ()) or is_small(origin, _REMARK) or not is_small(origin):
            return
        text = ("derivative of " if node.stage == "derivative" else "") + describe(origin, 90)
        if text != self.comment:
            self.comment = text
            self.lines.append("# " + text.encode("ascii", "backslashreplace").decode())

    def _return(self) -> None:
        uses = Counter(self.graph.outputs.values())
        complete = _complete(self.graph)
        partial = set(uses) - complete if self.graph.inputs else set()
        found: dict[int, ast.expr] = {}
        if partial:
            whole = [v for v in uses if v in complete][:1]  # one that has the full batch shape tells it
            pairs = [
                ast.Tuple([self.where[v], ast.Constant(self.graph[v].type.rank)], ast.Load())
                for v in whole or self.graph.inputs
            ]
            batch = self.names.new("batch")
            self.lines.append(_statement(batch, self.emitter.call("batch_shape", *pairs)))
        for v, count in uses.items():
            found[v] = self._operand(v, literal=False)
            if v in partial:
                found[v] = self.emitter.call("full_batch", found[v], self.graph[v].type.rank, _name(batch))
                if count > 1:  # the zeros of a matrix, say
                    name = self.names.new("full")
                    self.lines.append(_statement(name, found[v]))
                    found[v] = _name(name)
        answers = {name: found[v] for name, v in self.graph.outputs.items()}
        nest = self.graph.info.get("outputs")
        if nest is None or set(leaves(nest)) != set(answers):
            nest = tuple(answers) if len(answers) != 1 else next(iter(answers))
        self.lines.append(ast.unparse(ast.Return(_nest(nest, answers))))

    def _module(self, required: Mapping[str, str]) -> str:
        helpers = [inspect.getsource(_PRELUDE[name]) for name in self.emitter.used]
        # annotations of the prelude name Any, which generated code has no need of
        helpers = [_without_annotations(text) for text in helpers]
        parameters = [*self.inputs.values(), *(["*", *required.values()] if required else [])]
        header = f"def {self.function}({', '.join(parameters)}):"
        if len(header) > _WIDTH:
            wrapped = textwrap.fill(", ".join(parameters) + ",", _WIDTH - 4)
            header = f"def {self.function}(\n{textwrap.indent(wrapped, '    ')}\n):"
        # a docstring as such, so that `unparse` escapes it and chooses its quotes
        doc = ast.unparse(ast.Module([ast.Expr(ast.Constant(self.title or "Generated by sym2tf."))], []))
        head = ['"""Generated by sym2tf; needs only TensorFlow."""', "", "import tensorflow as tf", "", ""]
        body = [header, _indent(doc), *map(_indent, [*self.top, *self._lengths(), *self.lines])]
        return "\n".join(head + [h + "\n\n" for h in helpers] + body) + "\n"


def _complete(graph: Graph) -> set[int]:
    """The nodes that depend on every input, and so have the full batch shape by themselves.

    Where there are too many inputs to tell in linear time it is none: to broadcast what is complete changes nothing.
    """
    if len(graph.inputs) > _MANY:
        return set()
    seen = {v: 1 << k for k, v in enumerate(graph.inputs)}
    for v in graph.order:
        seen[v] = reduce(operator.or_, (seen[u] for u in graph.operands(v)), seen.get(v, 0))
    everything = (1 << len(graph.inputs)) - 1
    return {v for v, inputs in seen.items() if inputs == everything}


_COMPARE: dict[str, type[ast.cmpop]] = {"<": ast.Lt, "<=": ast.LtE}
_BINARY: dict[str, type[ast.operator]] = {
    "+": ast.Add,
    "-": ast.Sub,
    "*": ast.Mult,
    "/": ast.Div,
    "**": ast.Pow,
    "&": ast.BitAnd,
    "|": ast.BitOr,
    "^": ast.BitXor,
}


def _name(identifier: str) -> ast.Name:
    return ast.Name(identifier, ast.Load())


def _dotted(path: str) -> ast.expr:
    first, *rest = path.split(".")
    value: ast.expr = _name(first)
    for attribute in rest:
        value = ast.Attribute(value, attribute, ast.Load())
    return value


def _expression(thing: Any) -> ast.expr:
    if isinstance(thing, ast.expr):
        return thing
    if isinstance(thing, list | tuple):
        return ast.List([_expression(t) for t in thing], ast.Load())
    return ast.Constant(thing)


def _special(value: float) -> ast.expr:
    return ast.Call(_name("float"), [ast.Constant(repr(value))], [])


def _statement(name: str, value: ast.expr) -> str:
    return f"{name} = {ast.unparse(value)}"


def _number(value: Any) -> ast.expr:
    return ast.Constant(value) if not isinstance(value, float) or math.isfinite(value) else _special(value)


def _constant_name(value: Any) -> str:
    if isinstance(value, bool) or not math.isfinite(value):
        return f"const_{value}".lower().replace("-", "minus_")
    text = repr(value).removesuffix(".0").replace("-", "minus_").replace(".", "_point_")
    return f"const_{text}" if len(text) <= 16 else "const"


def _nest(nest: Any, answers: Mapping[str, ast.expr]) -> ast.expr:
    """The returned structure; keys of dicts that are no literals become their text."""
    if isinstance(nest, Mapping):
        keys = [ast.Constant(k if isinstance(k, str | int | float | bool) or k is None else str(k)) for k in nest]
        return ast.Dict(list(keys), [_nest(v, answers) for v in nest.values()])
    if isinstance(nest, list | tuple):
        items = [_nest(v, answers) for v in nest]
        return ast.List(items, ast.Load()) if isinstance(nest, list) else ast.Tuple(items, ast.Load())
    return answers[nest]


def _without_annotations(text: str) -> str:
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.returns = None
            for argument in (*node.args.args, node.args.vararg):
                if argument is not None:
                    argument.annotation = None
    return ast.unparse(tree)


def _indent(line: str) -> str:
    return "    " + line
