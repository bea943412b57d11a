"""SymPy to graph: the driver. One iterative walk; what each class becomes stands in the tables of the areas."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import sympy as sp

from sym2tf.collection import collection_paused
from sym2tf.errors import ArgumentError, UnsupportedExpressionError
from sym2tf.frontend import arrays, indexed, matrices, scalars
from sym2tf.frontend.assumptions import known_facts
from sym2tf.frontend.context import Context, Lowered, Scope, leaf_name
from sym2tf.frontend.describe import describe
from sym2tf.frontend.handlers import Handler, lookup
from sym2tf.frontend.packed import immutable, pack, unpacked
from sym2tf.frontend.scan import scan
from sym2tf.frontend.walk import ELEMENTS, TENSORS, binds_symbols, is_leaf, occurring
from sym2tf.ir.graph import Graph
from sym2tf.ir.types import Kind
from sym2tf.ops.values import with_kind
from sym2tf.trees import is_nest, leaves, map_nest

HANDLERS: Mapping[Any, Handler] = scalars.HANDLERS | indexed.HANDLERS | matrices.HANDLERS | arrays.HANDLERS
_LATER = {
    "DFT": "it is complex, and complex numbers are not supported yet",
    "LofLU": "LU factors depend on the order of the rows: use cholesky or QR factors, or A**-1*b to solve",
    "UofLU": "LU factors depend on the order of the rows: use cholesky or QR factors, or A**-1*b to solve",
    "Integral": "integrals are not supported yet: call .doit() or sum over a quadrature rule",
    "Limit": "call .doit()",
    "Subs": "call .doit()",
    "ImaginaryUnit": "complex numbers are not supported yet",
}


@collection_paused()
def lower(expr: Any, *, args: Any = None, indices: Sequence[Any] = (), assume: Any = ()) -> Graph:
    """The graph of a SymPy expression or a nest of them.

    Args:
        expr: an expression, a number, or a list, tuple or dict of these, nested as you like.
        args: the inputs in their order: symbols, indexed bases, elements, applied functions, names of these, explicit
            matrices of symbols (one input of that shape), and nests of them all. By default the free inputs sorted by
            name (numbers in names count as numbers), sizes left out.
        indices: the order of free indices as output axes; by default they are sorted by name.
        assume: what holds for inputs: `Q.positive_definite(A)` and the like, joined by `&` or in a sequence,
            `Simplex(t)`, `OneHot(t)`.

    Returns:
        A graph with one output per leaf, named by its path (`"out"` for a single expression). `info` holds:
        `"args"`, the nest of arguments with input names as leaves; `"outputs"`, the nest of output names; `"sizes"`,
        size name -> SymPy symbol; `"reaches"`, how far subscripts reach on axes that may be longer; `"extents"`, the
        numbers of terms of sums, which must not be negative; `"firsts"`, the first elements that subscripts reach;
        `"indices"`, for each output the free indices that its first axes stand for.

    Raises:
        UnsupportedExpressionError: lists every sub-expression that cannot be lowered.
        ArgumentError: something is no expression, `args` lacks an input, or `assume` is about something else.
    """
    nest = map_nest(_expression, expr)
    roots = list(leaves(nest))
    _hash_from_below(roots)
    context = Context()
    args = None if args is None else map_nest(_argument, _with_symbols(args, roots))
    declared = None if args is None else list(leaves(args))
    if declared is not None:
        _refuse_repeats(unpacked(declared))
    found = scan(context, roots, None if declared is None else unpacked(declared), list(indices))
    order = _argument_order(context, found, declared)
    pack(context, order)
    types = {leaf: context.types[leaf] for leaf in order if leaf not in context.sizes}
    context.known = known_facts(assume, types)
    lowered = [_lower_one(context, root) for root in roots]
    if context.problems:
        raise UnsupportedExpressionError(context.problems)
    for leaf in order:
        if leaf not in context.sizes:
            context.input(leaf)
    names = ["out"] if not is_nest(nest) else []
    output_nest = map_nest(lambda leaf, path: path or "out", nest)
    names = list(leaves(output_nest))
    values = [x.value if x.value.type.kind is Kind.BOOLEAN else with_kind(x.value, Kind.REAL) for x in lowered]
    info = {
        "args": _argument_nest(context, args, order),
        "outputs": output_nest,
        "sizes": {name: symbol for symbol, name in context.sizes.items()},
        "reaches": tuple((_input_name(context, base), axis, size) for base, axis, size in context.reaches),
        "extents": tuple(dict.fromkeys(e for e in context.extents if not isinstance(e, int))),
        "firsts": tuple(dict.fromkeys(context.firsts)),
        "indices": tuple(tuple(axis.symbol for axis in x.axes) for x in lowered),
    }
    inputs = [context.inputs[leaf].id for leaf in order if leaf not in context.sizes]
    return context.builder.build(inputs, {n: v.id for n, v in zip(names, values, strict=True)}, info)


def _hash_from_below(exprs: Sequence[Any]) -> None:
    """Let SymPy work out hashes, children first: matrix expressions are made without, and it recurses for them."""
    stack = [(expr, False) for expr in exprs]
    seen: set[int] = set()
    while stack:
        expr, ready = stack.pop()
        if ready:
            hash(expr)
        elif id(expr) not in seen and isinstance(expr, sp.Basic) and expr._mhash is None:
            seen.add(id(expr))
            stack.append((expr, True))
            stack.extend((a, False) for a in expr.args)


def _expression(thing: Any, path: str) -> Any:
    if isinstance(thing, sp.Tuple):
        return tuple(thing)
    if isinstance(thing, sp.Basic):
        return thing
    if isinstance(thing, bool | np.bool_):
        return sp.true if thing else sp.false
    if isinstance(thing, int | float | np.number):
        return sp.sympify(thing.item() if isinstance(thing, np.number) else thing)
    if isinstance(thing, str):
        raise ArgumentError(f"{thing!r} is text, not an expression: use sym2tf.parse({thing!r})")
    if isinstance(thing, sp.NDimArray | sp.MatrixBase):  # a mutable one
        return thing.as_immutable()
    where = f" at {path}" if path else ""
    what = f"a {type(thing).__name__}{where}"
    raise ArgumentError(f"cannot compile {what}: give SymPy expressions, numbers, or nests of them")


def _with_symbols(args: Any, roots: Sequence[Any]) -> Any:
    """`args` with symbols in place of names."""
    if not any(isinstance(a, str) for a in leaves(args)):
        return args
    known: dict[str, set[Any]] = {}
    for leaf in occurring(roots):
        known.setdefault(leaf_name(leaf), set()).add(leaf)

    def resolved(thing: Any, path: str) -> Any:
        if not isinstance(thing, str):
            return thing
        found = known.get(thing, set())
        if len(found) > 1:
            raise ArgumentError(f"args names {thing!r}, which several symbols are called: give the symbol itself")
        if not found:
            has = ", ".join(sorted(known))
            raise ArgumentError(f"args names {thing!r}, which the expression does not contain; it has {has}")
        return next(iter(found))

    return map_nest(resolved, args)


def _argument(thing: Any, path: str) -> Any:
    if isinstance(thing, (*TENSORS, *ELEMENTS)) or (isinstance(thing, sp.Basic) and is_leaf(thing)):
        return thing
    if isinstance(thing, sp.MatrixBase) and all(is_leaf(e) and not isinstance(e, TENSORS) for e in thing.flat()):
        return immutable(thing)
    raise ArgumentError(
        f"args{path} is {describe(thing)}, a {type(thing).__name__}; arguments are symbols, indexed bases or elements, "
        "applied functions, explicit matrices of symbols, and nests of these"
    )


def _refuse_repeats(declared: Sequence[Any]) -> None:
    repeated = sorted({str(a) for a in declared if declared.count(a) > 1}) if len(set(declared)) < len(declared) else []
    if repeated:
        raise ArgumentError(f"args names {', '.join(repeated)} more than once")


def _argument_order(context: Context, found: Sequence[Any], declared: Sequence[Any] | None) -> list[Any]:
    if declared is None:
        return sorted(found, key=lambda leaf: (_natural(leaf_name(leaf)), leaf_name(leaf), type(leaf).__name__))
    given = set(unpacked(declared))
    missing = sorted(leaf_name(leaf) for leaf in found if leaf not in given)
    if missing:
        raise ArgumentError(f"args lacks {', '.join(missing)}, which the expression needs")
    return list(declared)


def _natural(name: str) -> list[tuple[int, str]]:
    """A key by which `x2` stands before `x10`."""
    parts = re.split("([0-9]+)", name)
    return [(int(p), "") if k % 2 and len(p) < 20 else (-1, p) for k, p in enumerate(parts)]


def _argument_nest(context: Context, args: Any, order: Sequence[Any]) -> Any:
    nest = tuple(order) if args is None else args
    if not is_nest(nest):
        nest = (nest,)
    return map_nest(lambda leaf, path: context.sizes.get(leaf) or _input_name(context, leaf), nest)


def _input_name(context: Context, leaf: Any) -> str:
    name: str = context.inputs[leaf].node.attributes["name"]
    return name


def _lower_one(context: Context, root: Any) -> Lowered:
    """One expression, without recursion: children are on the stack above their parents."""
    memo: dict[tuple[int, Scope], Lowered] = {}
    stack: list[tuple[Any, Scope, tuple[Handler, list[Any], Scope] | None]] = [(root, context.root, None)]
    while stack:
        expr, scope, opened = stack.pop()
        if opened is None:
            if _known(memo, expr, scope) is None:
                _open(context, memo, stack, expr, scope, root)
            continue
        handler, children, inner = opened
        context.builder.origin = expr
        xs = [_found(memo, child, scope if k < handler.outside else inner) for k, child in enumerate(children)]
        _remember(memo, expr, scope, handler.build(context, expr, scope, xs))
    context.builder.origin = None
    return _found(memo, root, context.root)


def _open(context: Context, memo: Any, stack: list[Any], expr: Any, scope: Scope, root: Any) -> None:
    """Put an expression back on the stack, with the children that it needs above it."""
    element = scope.element(expr) if isinstance(expr, sp.Symbol) else None
    if element is not None:
        matrix, home = element
        memo[id(expr), home] = (expr, _inside(_found(memo, matrix, home.parent or home), home))
        return
    handler = lookup(HANDLERS, expr)
    if handler is None:
        _remember(memo, expr, scope, context.unsupported(expr, root, _advice(expr)))
        handler = _STAND_IN
    inner = scope
    if handler.opens:
        inner = context.scopes.get((id(expr), scope), scope)
        if inner is scope:  # its range was refused by the scan, which noted why
            if not context.problems:
                raise AssertionError(f"the range of {describe(expr)} is unknown: the scan has not seen it")
            _remember(memo, expr, scope, context.number(float("nan")))
            return
    children = list(handler.children(expr))
    stack.append((expr, scope, (handler, children, inner)))
    scopes = [scope if k < handler.outside else inner for k in range(len(children))]
    stack.extend((child, s, None) for child, s in zip(reversed(children), reversed(scopes), strict=True))


def _inside(answer: Lowered, scope: Scope) -> Lowered:
    """An answer that is not to be shared outside of `scope`."""
    return Lowered(answer.value, answer.axes, max(answer.depth, scope.depth))


def _parts(expr: Any) -> list[Any]:
    """What to look at below an unsupported expression, so that one error lists everything."""
    if isinstance(expr, sp.MatrixExpr) or binds_symbols(expr):
        return []
    return [a for a in getattr(expr, "args", ()) if isinstance(a, sp.Expr | sp.logic.boolalg.Boolean)]


_STAND_IN = Handler(lambda context, expr, scope, xs: context.number(float("nan")), children=_parts)


def _known(memo: Mapping[tuple[int, Scope], Any], expr: Any, scope: Scope) -> Lowered | None:
    for s in scope.outward():
        entry = memo.get((id(expr), s))
        if entry is not None:
            answer: Lowered = entry[1]
            return answer
        if s.shadows:
            break
    return None


def _found(memo: Mapping[tuple[int, Scope], Any], expr: Any, scope: Scope) -> Lowered:
    answer = _known(memo, expr, scope)
    if answer is None:
        raise AssertionError(f"{describe(expr)} was not lowered before it was used")
    return answer


def _remember(memo: dict[Any, Any], expr: Any, scope: Scope, answer: Lowered) -> None:
    """Store an answer in the outermost scope where it is valid; keeping the expression keeps its id its own."""
    home = scope
    while home.parent is not None and home.depth > answer.depth and not home.shadows:
        home = home.parent
    memo[id(expr), home] = (expr, answer)


def _advice(expr: Any) -> str:
    for cls in type(expr).__mro__:
        if cls.__name__ in _LATER:
            return _LATER[cls.__name__]
    if isinstance(expr, sp.Function):
        return "the function is not supported yet: rewrite it (.rewrite, .doit, expand_func) or pass it as an argument"
    return f"{type(expr).__name__} is not supported yet"
