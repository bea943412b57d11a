"""SymPy expressions as JSON and back: a list of nodes, each the name of a class and the places of its arguments.

Reading builds known classes alone and never looks into text, so a file from anywhere can do no more than name
expressions that the compiler knows. Shared parts are written once, and nothing recurses, however deep an expression is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import sympy as sp
from mpmath.libmp import from_man_exp
from sympy.combinatorics import Permutation
from sympy.core.assumptions import _assume_defined
from sympy.core.function import Application, AppliedUndef, UndefinedFunction
from sympy.core.operations import AssocOp
from sympy.core.relational import Relational
from sympy.core.symbol import Str
from sympy.functions.elementary.piecewise import ExprCondPair
from sympy.logic.boolalg import Boolean

from sym2tf.errors import PersistenceError
from sym2tf.frontend.handlers import StandIn
from sym2tf.frontend.lower import HANDLERS
from sym2tf.notation import MaxOver, MinOver, over_limits

MAX_HEX = 20_000  # digits of a number, base 16
MAX_BITS = 4 * MAX_HEX
MAX_EXPONENT = 10**7
MAX_NODES = 5_000_000

Node = list[Any]

CONSTANTS: Mapping[str, Any] = {
    "pi": sp.pi, "e": sp.E, "euler_gamma": sp.EulerGamma, "golden_ratio": sp.GoldenRatio, "catalan": sp.Catalan,
    "tribonacci": sp.TribonacciConstant, "i": sp.I, "oo": sp.oo, "-oo": -sp.oo, "zoo": sp.zoo, "nan": sp.nan,
    "true": sp.true, "false": sp.false, "reals": sp.S.Reals, "integers": sp.S.Integers, "naturals": sp.S.Naturals,
    "naturals0": sp.S.Naturals0, "empty": sp.S.EmptySet,
}  # fmt: skip
_CONSTANT_NAMES = {value: name for name, value in CONSTANTS.items()}

# What holds parts that are no terms by themselves, beside the classes that the compiler lowers.
_STRUCTURE = (
    sp.Tuple, sp.Dict, sp.Lambda, ExprCondPair, sp.Range, sp.Interval, sp.Union, sp.Intersection, sp.FiniteSet,
    sp.ImmutableDenseMatrix, sp.ImmutableSparseMatrix, sp.ImmutableDenseNDimArray, sp.Subs,
)  # fmt: skip
_OWN_FORM = (sp.Number, sp.NumberSymbol, sp.Symbol, sp.MatrixBase, sp.NDimArray, StandIn, AppliedUndef)


class Expressions:
    """The nodes of expressions that are written one after the other; what they share stands there once.

    Attributes:
        nodes: what `read_expressions` reads.
    """

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self._places: dict[int, int] = {}
        self._alive: list[Any] = []  # an id is that of its object only as long as that lives

    def place(self, expression: Any) -> int:
        """Where `expression` stands, which is written now if it does not yet.

        Raises:
            PersistenceError: a class that is not known; names it.
        """
        root = immutable(expression)
        stack: list[tuple[Any, Sequence[Any] | None]] = [(root, None)]
        while stack:
            thing, parts = stack.pop()
            if id(thing) in self._places:
                continue
            if parts is None:  # asked for once: some classes make new ones each time
                parts = () if _is_atom(thing) else _parts(thing)
                stack.append((thing, parts))
                stack.extend((part, None) for part in reversed(parts))
                continue
            self._alive.append((thing, parts))
            self._places[id(thing)] = len(self.nodes)
            self.nodes.append(_node(thing, [self._places[id(part)] for part in parts]))
        return self._places[id(root)]


def expression_to_json(expression: Any) -> dict[str, Any]:
    """One expression as what `json.dump` takes; raises as `Expressions.place` does."""
    table = Expressions()
    return {"root": table.place(expression), "nodes": table.nodes}


def expression_from_json(document: Any) -> Any:
    """The expression that `expression_to_json` wrote.

    Raises:
        PersistenceError: a document of another form, or a class that is not known.
    """
    if not isinstance(document, Mapping) or not isinstance(document.get("root"), int):
        raise PersistenceError("an expression is written as an object with nodes and a root")
    return at(read_expressions(document.get("nodes")), document["root"])


def read_expressions(nodes: Any) -> list[Any]:
    """The expressions at all places.

    Raises:
        PersistenceError: says which node is wrong.
    """
    if not isinstance(nodes, list) or len(nodes) > MAX_NODES:
        raise PersistenceError(f"the nodes of expressions must be a list of at most {MAX_NODES}")
    built: list[Any] = []
    for k, node in enumerate(nodes):
        if not isinstance(node, list) or not node or not isinstance(node[0], str):
            raise PersistenceError(f"node {k} of the expressions is no list that begins with the name of a class")
        name, *content = node
        try:
            built.append(ATOMS[name][2](*content) if name in ATOMS else _compound(name, content, built))
        except PersistenceError as error:
            raise PersistenceError(f"node {k} of the expressions: {error}") from None
        except Exception as error:
            raise PersistenceError(
                f"node {k} of the expressions is no valid {name[:40]}: {str(error)[:200]}"
            ) from error
    return built


def at(built: Sequence[Any], place: Any) -> Any:
    """The expression at a place.

    Raises:
        PersistenceError: there is none yet.
    """
    if isinstance(place, bool) or not isinstance(place, int) or not 0 <= place < len(built):
        raise PersistenceError(f"{str(place)[:40]!r} is the place of no earlier expression")
    return built[place]


def immutable(expression: Any) -> Any:
    """The expression itself, or the immutable one that is equal to it."""
    if isinstance(expression, sp.MatrixBase | sp.NDimArray) and not isinstance(expression, sp.Basic):
        return expression.as_immutable()
    return expression


# Compound expressions ----------------------------------------------------------------------------


@cache
def classes() -> Mapping[str, Any]:
    """The classes with arguments that can be written and read, by name."""
    known = [*_STRUCTURE, *(c for c in HANDLERS if isinstance(c, type) and not issubclass(c, _OWN_FORM))]
    return {c.__name__: c for c in known if not _is_atom_class(c)}


def _parts(thing: Any) -> tuple[Any, ...]:
    if isinstance(thing, sp.IndexedBase):
        shape = () if thing.shape is None else (sp.Tuple(*thing.shape),)
        return (thing.label, *shape)
    parts: tuple[Any, ...] = tuple(immutable(part) for part in thing.args)
    return parts


def _node(thing: Any, places: list[int]) -> Node:
    for name, (cls, write, _) in ATOMS.items():
        if _belongs(thing, cls):
            return [name, *write(thing)]
    if isinstance(thing, AppliedUndef):
        _require_plain(thing.func)
        return ["AppliedUndef", str(thing.func), *places]
    if isinstance(thing, sp.IndexedBase):
        if thing.strides is not None or thing.offset != 0:
            raise PersistenceError(f"{thing} has strides or an offset, which cannot be saved")
        return ["IndexedBase", *places]
    name = type(thing).__name__
    if classes().get(name) is not type(thing):
        raise PersistenceError(f"expressions of the class {name} cannot be saved: {str(thing)[:80]}")
    rebuilt = construct(classes()[name], [immutable(part) for part in thing.args])
    if type(rebuilt) is not type(thing) or rebuilt != thing:
        raise PersistenceError(f"this {name} cannot be saved, SymPy would make {str(rebuilt)[:80]} of it")
    return [name, *places]


def _compound(name: str, content: Sequence[Any], built: Sequence[Any]) -> Any:
    if name == "AppliedUndef":
        function, *content = content
        return sp.Function(_text(function))(*(at(built, place) for place in content))
    arguments = [at(built, place) for place in content]
    if name == "IndexedBase":
        label, *shape = arguments
        if not isinstance(label, sp.Symbol):
            raise PersistenceError("the label of an IndexedBase is a symbol")
        return sp.IndexedBase(label, *shape)
    if name not in classes():
        raise PersistenceError(f"the class {name[:40]!r} is not known")
    return construct(classes()[name], arguments)


def construct(cls: Any, arguments: Sequence[Any]) -> Any:
    """An expression of a class from its `args`, as they are: nothing is evaluated."""
    if cls in {sp.Sum, sp.Product, MaxOver, MinOver}:
        body, *limits = arguments
        return over_limits(cls, body, limits)
    if cls in {sp.ImmutableDenseMatrix, sp.ImmutableSparseMatrix}:
        rows, columns, entries = arguments
        return cls(int(rows), int(columns), _filled(entries, int(rows) * int(columns)))
    if cls is sp.ImmutableDenseNDimArray:
        entries, shape = arguments
        return cls(list(entries), tuple(int(k) for k in shape))
    if issubclass(cls, AssocOp) or issubclass(cls, Application | Relational | sp.Pow | sp.Union | sp.Intersection):
        return cls(*arguments, evaluate=False)
    if issubclass(cls, Boolean) and cls is not sp.Contains:
        return cls(*arguments, evaluate=False)
    return cls(*arguments)


def _filled(entries: Any, size: int) -> Any:
    """The entries of a matrix as its constructor takes them: all of a dense one, those that are not 0 of a sparse."""
    if isinstance(entries, sp.Dict):
        return {tuple(int(k) for k in place): value for place, value in entries.items()}
    if len(entries) != size:
        raise PersistenceError(f"a matrix of {size} elements has {len(entries)} entries")
    return list(entries)


def _require_plain(function: UndefinedFunction) -> None:
    if type(function) is not UndefinedFunction or sp.Function(str(function)) != function:
        raise PersistenceError(f"the function {function} has assumptions, which cannot be saved")


# Atoms: class, what is written, and what is made of that -------------------------------------------


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise PersistenceError(f"{str(value)[:40]} is no text")
    return value


def _whole(value: Any) -> int:
    """An integer from its digits, base 16, of which a file can hold no absurd number."""
    text = _text(value)
    if len(text) > MAX_HEX:
        raise PersistenceError(f"a number has {len(text)} digits, more than {MAX_HEX}")
    return int(text, 16)


def _bounded(value: Any, limit: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > limit:
        raise PersistenceError(f"{str(value)[:40]} is no integer of at most {limit}")
    return value


def _digits(number: Any) -> str:
    text = format(int(number), "x")
    if len(text) > MAX_HEX:
        raise PersistenceError(f"a number of more than {MAX_HEX} hexadecimal digits cannot be saved")
    return text


def _write_float(x: Any) -> list[Any]:
    sign, mantissa, exponent, _ = x._mpf_
    return [_digits(-mantissa if sign else mantissa), _bounded(int(exponent), MAX_EXPONENT), x._prec]


def _read_float(mantissa: Any, exponent: Any, precision: Any) -> Any:
    precision = _bounded(precision, MAX_BITS)
    return sp.Float._new(from_man_exp(_whole(mantissa), _bounded(exponent, MAX_EXPONENT)), precision, zero=False)


def _assumptions(symbol: Any) -> dict[str, bool]:
    return dict(sorted(symbol._assumptions_orig.items()))


def _checked(assumptions: Any) -> dict[str, bool]:
    known = isinstance(assumptions, dict) and all(isinstance(v, bool) for v in assumptions.values())
    if not known or not set(assumptions) <= _assume_defined:
        raise PersistenceError(f"{str(assumptions)[:80]} are no assumptions of a symbol")
    return dict(assumptions)


Atom = tuple[Any, Callable[[Any], list[Any]], Callable[..., Any]]

ATOMS: Mapping[str, Atom] = {
    "constant": (
        tuple(dict.fromkeys(type(c) for c in CONSTANTS.values())),
        lambda c: [_CONSTANT_NAMES[c]],
        lambda name: CONSTANTS[_text(name)],
    ),
    "Integer": (sp.Integer, lambda n: [_digits(n.p)], lambda digits: sp.Integer(_whole(digits))),
    "Rational": (
        sp.Rational,
        lambda q: [_digits(q.p), _digits(q.q)],
        lambda p, q: sp.Rational(_whole(p), _whole(q)),
    ),
    "Float": (sp.Float, _write_float, _read_float),
    "Str": (Str, lambda s: [s.name], lambda name: Str(_text(name))),
    "Dummy": (
        sp.Dummy,
        lambda s: [s.name, int(s.dummy_index), _assumptions(s)],
        lambda name, k, facts: sp.Dummy(_text(name), dummy_index=_bounded(k, 2**63), **_checked(facts)),
    ),
    "Symbol": (
        sp.Symbol,
        lambda s: [s.name, _assumptions(s)],
        lambda name, facts: sp.Symbol(_text(name), **_checked(facts)),
    ),
    "Permutation": (
        Permutation,
        lambda p: [[int(k) for k in p.array_form]],
        lambda form: Permutation([_bounded(k, MAX_NODES) for k in form]),
    ),
}  # fmt: skip


def _belongs(thing: Any, cls: Any) -> bool:
    if cls is sp.Symbol:
        return type(thing) is sp.Symbol
    if cls is sp.Dummy:
        return type(thing) is sp.Dummy
    return isinstance(thing, cls)


def _is_atom(thing: Any) -> bool:
    return any(_belongs(thing, cls) for cls, _, _ in ATOMS.values())


def _is_atom_class(cls: type) -> bool:
    return any(issubclass(cls, atom) for atom, _, _ in ATOMS.values())
