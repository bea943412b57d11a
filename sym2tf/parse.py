"""Text -> SymPy, through a whitelist over Python's `ast`.

Nothing in the text is ever executed: it becomes a syntax tree, and only the kinds of nodes and the names that
stand in the tables below become mathematics. Everything else is an error that shows the place. SymPy's own
`sympify` evaluates the text as Python, which is why it is not used.
"""

from __future__ import annotations

import ast
import difflib
import math
import unicodedata
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import sympy as sp
from sympy.logic.boolalg import Boolean
from sympy.tensor.indexed import IndexException

from sym2tf import nn
from sym2tf.errors import ArgumentError, ParseError, ResourceLimitError
from sym2tf.magnitude import (
    MAX_BITS,
    cautious,
    cautious_special,
    check_closed,
    check_exponential,
    check_number,
    check_power,
    check_product,
    check_sum,
)
from sym2tf.notation import MaxOver, MinOver

MAX_CHARACTERS = 100_000
MAX_DEPTH = 200  # of nesting; chains of sums, products, conditions and comparisons count once

CONSTANTS: dict[str, sp.Basic] = {
    "pi": sp.pi,
    "E": sp.E,
    "oo": sp.oo,
    "EulerGamma": sp.EulerGamma,
    "GoldenRatio": sp.GoldenRatio,
    "Catalan": sp.Catalan,
}
_SYMPY_ERRORS = (
    ArithmeticError, AttributeError, IndexException, LookupError, NotImplementedError, RecursionError,
    TypeError, ValueError,
)  # fmt: skip
REFUSED_NAMES = {"I": "complex numbers are not supported yet; for a symbol choose another name"}


def parse(text: str, *, symbols: Mapping[str, sp.Basic] | None = None) -> sp.Basic:
    """The SymPy expression that `text` writes down.

    Numbers are read as Python reads them (integers exactly, `0.1` as the nearest float64). Names in
    `CONSTANTS` are constants, names in `FUNCTIONS` functions, names with a subscript bases, all others plain
    symbols, `S`, `N` and `beta` too. `a if c else b` is a `Piecewise`, `a == b` an `Eq`.

    Args:
        text: the expression, one in all; line ends count as spaces.
        symbols: what names stand for where a plain symbol will not do; goes before constants.

    Raises:
        ParseError: the text is not an expression of this grammar; the message shows the place.
        ResourceLimitError: a number in it would be absurdly large.
        ArgumentError: `text` is not a `str`.
    """
    if not isinstance(text, str):
        raise ArgumentError(f"parse takes text, got {type(text).__name__}")
    source = _source(text)
    tree = _syntax_tree(source)
    context = _Context(source, dict(symbols or {}), _subscripted(tree))
    _check_bases(context, tree)
    value = _evaluate(context, tree)
    if not isinstance(value, sp.Basic) or isinstance(value, sp.IndexedBase):
        context.fail(tree, "a tuple or a name without its subscript is not an expression")
    return value


@dataclass(frozen=True)
class _Context:
    """The text, what the caller's names stand for, and the names that are used with subscripts (how many)."""

    source: str
    symbols: Mapping[str, Any]
    bases: Mapping[str, int]

    def fail(self, node: Any, message: str, error: type[Exception] = ParseError) -> NoReturn:
        """Raise `error` with the line of the text and a caret under `node`."""
        line = self.source.encode()  # syntax trees count in bytes of UTF-8
        start = len(line[: node.col_offset].decode())
        end = len(line[: node.end_col_offset].decode())
        raise error(message + _marked(self.source, start, end)) from None

    def text(self, node: Any) -> str:
        """What the user wrote for `node`."""
        return self.source.encode()[node.col_offset : node.end_col_offset].decode()


def _marked(source: str, start: int, end: int) -> str:
    """The line with a caret under characters `start` to `end`, cut to what fits a terminal."""
    first = max(0, start - 60)
    last = max(first + 90, start + 1)
    carets = "^" * max(1, min(end, last) - start)
    return f"\n    {source[first:last]}\n    {' ' * (start - first)}{carets}"


def _source(text: str) -> str:
    """`text` on one line, character for character; refuses what would be dropped or not be seen."""
    if len(text) > MAX_CHARACTERS:
        raise ParseError(f"{len(text)} characters of text; at most {MAX_CHARACTERS} are read")
    source = "".join(" " if c in "\n\r\t\f" else c for c in text)
    for k, c in enumerate(source):
        if c == "#":
            raise ParseError("comments are not part of an expression" + _marked(source, k, k + 1))
        if unicodedata.category(c) in {"Cc", "Cf", "Cs"}:
            raise ParseError(f"a character that cannot be seen, {c!a}" + _marked(source, k, k + 1))
    if not source.strip():
        raise ParseError("an empty text is not an expression")
    return source.strip()


def _syntax_tree(source: str) -> ast.expr:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is odd in a program, such as `1if x else 2`
            return ast.parse(source, mode="eval").body
    except SyntaxError as error:
        start = error.offset - 1 if error.offset and error.lineno == 1 else len(source)
        message = error.msg.split("(<", maxsplit=1)[0].removesuffix(". Perhaps you forgot a comma?")
        raise ParseError(f"not an expression: {message}" + _marked(source, start, start + 1)) from None
    except (RecursionError, MemoryError):
        raise ParseError(
            "the text is nested too deeply or chains too many operators; write long sums as Sum(...)"
        ) from None
    except (ValueError, OverflowError) as error:
        raise ParseError(f"not an expression: {error}") from None


def _subscripted(tree: ast.expr) -> dict[str, int]:
    found: dict[str, int] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
            found.setdefault(node.value.id, len(_indices(node)))
    return found


def _check_bases(context: _Context, tree: ast.expr) -> None:
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
            due, count = context.bases[node.value.id], len(_indices(node))
            if count != due:
                context.fail(node, f"{node.value.id} has {count} subscripts here and {due} elsewhere")


# The walk -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Form:
    """One kind of syntax node: which parts are evaluated first, and what is made of their values."""

    parts: Callable[[_Context, Any], Sequence[ast.expr]]
    build: Callable[[_Context, Any, list[Any]], Any]


def _evaluate(context: _Context, root: ast.expr) -> Any:
    """Evaluate the tree from its leaves up, with an explicit stack."""
    values: list[Any] = []
    stack: list[tuple[ast.expr, int, int]] = [(root, 0, -1)]  # node, depth, number of parts (-1: not known)
    while stack:
        node, depth, count = stack.pop()
        form = _FORMS.get(type(node))
        if form is None:
            context.fail(node, f"{_named(node)} is not part of an expression here")
        if depth > MAX_DEPTH:
            context.fail(node, f"nested more than {MAX_DEPTH} levels deep")
        if count < 0:
            parts = form.parts(context, node)
            stack.append((node, depth, len(parts)))
            stack.extend((part, depth + 1, -1) for part in reversed(parts))
            continue
        operands = values[len(values) - count :]
        del values[len(values) - count :]
        values.append(_built(context, node, form, operands))
    return values.pop()


def _built(context: _Context, node: ast.expr, form: _Form, operands: list[Any]) -> Any:
    """What `form` makes of the operands; whatever goes wrong in SymPy is shown at its place in the text."""
    try:
        value = form.build(context, node, operands)
        check_number(value)
    except ParseError:
        raise
    except ResourceLimitError as error:
        context.fail(node, str(error), ResourceLimitError)
    except _SYMPY_ERRORS as error:
        context.fail(node, f"SymPy refuses this: {str(error)[:200]}")
    return value


def _named(node: ast.expr) -> str:
    names = {
        ast.Attribute: "an attribute (a dot)", ast.Lambda: "lambda", ast.JoinedStr: "an f-string",
        ast.ListComp: "a comprehension", ast.SetComp: "a comprehension", ast.DictComp: "a comprehension",
        ast.GeneratorExp: "a comprehension", ast.NamedExpr: "an assignment (:=)",
        ast.Starred: "a starred argument", ast.List: "a list", ast.Dict: "a dict", ast.Set: "a set",
        ast.Slice: "a slice", ast.Await: "await", ast.Yield: "yield",
        ast.YieldFrom: "yield",
    }  # fmt: skip
    return names.get(type(node), type(node).__name__)


def _number(context: _Context, node: ast.expr, value: Any) -> Any:
    if isinstance(value, sp.IndexedBase):
        context.fail(node, f"{value} stands with a subscript elsewhere and without one here")
    if not isinstance(value, sp.Expr):
        what = "a tuple" if isinstance(value, tuple) else "a condition"
        context.fail(node, f"{what} where a number is due")
    return value


def _condition(context: _Context, node: ast.expr, value: Any) -> Any:
    if not isinstance(value, Boolean):
        context.fail(node, "a number where a condition is due")
    return value


def _each(check: Callable[..., Any], context: _Context, nodes: Sequence[ast.expr], values: Sequence[Any]) -> list[Any]:
    return [check(context, node, value) for node, value in zip(nodes, values, strict=True)]


# Leaves -------------------------------------------------------------------------------------------


def _constant(context: _Context, node: ast.Constant, _: list[Any]) -> sp.Basic:
    value = node.value
    if isinstance(value, bool):
        return sp.true if value else sp.false
    if isinstance(value, int):
        if value.bit_length() > MAX_BITS:
            raise ResourceLimitError(f"an integer of more than {MAX_BITS} bits")
        return sp.Integer(value)
    if isinstance(value, float):
        if math.isinf(value):
            context.fail(node, "a number too large for float64")
        return sp.Float(value)
    return context.fail(node, f"{_literal(value)} is not a number")


def _literal(value: Any) -> str:
    if isinstance(value, complex):
        return "an imaginary number (complex numbers are not supported yet)"
    return "a string" if isinstance(value, str | bytes) else repr(value)


def _name(context: _Context, node: ast.Name, _: list[Any]) -> Any:
    _check_spelling(context, node)
    name = node.id
    if name in context.symbols:
        return context.symbols[name]
    if name in REFUSED_NAMES:
        context.fail(node, f"{name}: {REFUSED_NAMES[name]}")
    if name in CONSTANTS:
        return CONSTANTS[name]
    if name in FUNCTIONS:
        context.fail(node, f"{name} is a function: write {name}(...)")
    return sp.IndexedBase(name) if name in context.bases else sp.Symbol(name)


def _check_spelling(context: _Context, node: ast.Name) -> None:
    """Python folds look-alike letters into one name (PEP 3131); two symbols must not become one unseen."""
    written = context.text(node)
    if written != node.id:
        context.fail(node, f"{written!r} would be read as {node.id!r}; write it so")


# Operators ----------------------------------------------------------------------------------------

_CHAINS: dict[type, tuple[type, ...]] = {
    ast.Add: (ast.Add, ast.Sub), ast.Sub: (ast.Add, ast.Sub),
    ast.Mult: (ast.Mult, ast.Div), ast.Div: (ast.Mult, ast.Div),
    ast.BitAnd: (ast.BitAnd,), ast.BitOr: (ast.BitOr,),
}  # fmt: skip
_ADVICE: dict[type, str] = {
    ast.BitXor: "^ is not a power: write **; the exclusive or is Xor(a, b)",
    ast.FloorDiv: "// is not supported: write floor(a/b)",
    ast.MatMult: "@ is not supported: write a Sum over an index",
    ast.LShift: "<< is not supported: write a*2**b",
    ast.RShift: ">> is not supported: write floor(a/2**b)",
}


def _chain(node: ast.BinOp) -> tuple[list[ast.expr], list[type]]:
    """`a - b + c` as its operands and the operators before each but the first."""
    family = _CHAINS.get(type(node.op), ())
    operands, operators = [node.right], [type(node.op)]
    left = node.left
    while isinstance(left, ast.BinOp) and type(left.op) in family:
        operands.append(left.right)
        operators.append(type(left.op))
        left = left.left
    return [left, *reversed(operands)], operators[::-1]


def _binary_parts(context: _Context, node: ast.BinOp) -> Sequence[ast.expr]:
    if type(node.op) in _ADVICE:
        context.fail(node, _ADVICE[type(node.op)])
    return _chain(node)[0]


def _binary(context: _Context, node: ast.BinOp, values: list[Any]) -> Any:
    parts, operators = _chain(node)
    if isinstance(node.op, ast.BitAnd | ast.BitOr):
        conditions = _each(_condition, context, parts, values)
        return (sp.And if isinstance(node.op, ast.BitAnd) else sp.Or)(*conditions)
    numbers = _each(_number, context, parts, values)
    if isinstance(node.op, ast.Pow):
        check_power(*numbers)
        return sp.Pow(*numbers)
    if isinstance(node.op, ast.Mod):
        return cautious(sp.Mod)(*numbers)
    if isinstance(node.op, ast.Add | ast.Sub):
        check_sum(numbers)
        return sp.Add(numbers[0], *(-x if op is ast.Sub else x for op, x in zip(operators, numbers[1:], strict=True)))
    check_product(numbers)
    return sp.Mul(
        numbers[0], *(sp.Pow(x, -1) if op is ast.Div else x for op, x in zip(operators, numbers[1:], strict=True))
    )


def _unary(context: _Context, node: ast.UnaryOp, values: list[Any]) -> Any:
    if isinstance(node.op, ast.Not | ast.Invert):
        return sp.Not(_condition(context, node.operand, values[0]))
    number = _number(context, node.operand, values[0])
    return -number if isinstance(node.op, ast.USub) else number


def _boolean(context: _Context, node: ast.BoolOp, values: list[Any]) -> Any:
    conditions = _each(_condition, context, node.values, values)
    return (sp.And if isinstance(node.op, ast.And) else sp.Or)(*conditions)


_COMPARISONS: dict[type, Any] = {
    ast.Lt: sp.Lt,
    ast.LtE: sp.Le,
    ast.Gt: sp.Gt,
    ast.GtE: sp.Ge,
    ast.Eq: sp.Eq,
    ast.NotEq: sp.Ne,
}


def _compare_parts(context: _Context, node: ast.Compare) -> Sequence[ast.expr]:
    if any(type(op) not in _COMPARISONS for op in node.ops):
        context.fail(node, "only the comparisons < <= > >= == != are mathematics")
    return [node.left, *node.comparators]


def _compare(context: _Context, node: ast.Compare, values: list[Any]) -> Any:
    numbers = _each(_number, context, [node.left, *node.comparators], values)
    return sp.And(
        *(cautious(_COMPARISONS[type(op)])(a, b) for op, a, b in zip(node.ops, numbers, numbers[1:], strict=False))
    )


def _branches(node: ast.IfExp) -> list[ast.expr]:
    """`a if p else b if q else c` as a, p, b, q, c."""
    parts: list[ast.expr] = []
    rest: ast.expr = node
    while isinstance(rest, ast.IfExp):
        parts += [rest.body, rest.test]
        rest = rest.orelse
    return [*parts, rest]


def _conditional(context: _Context, node: ast.IfExp, values: list[Any]) -> Any:
    parts = _branches(node)
    numbers = _each(_number, context, parts[::2], values[::2])
    conditions = _each(_condition, context, parts[1::2], values[1::2])
    return sp.Piecewise(*zip(numbers, [*conditions, True], strict=True))


def _indices(node: ast.Subscript) -> list[ast.expr]:
    return list(node.slice.elts) if isinstance(node.slice, ast.Tuple) else [node.slice]


def _subscript_parts(context: _Context, node: ast.Subscript) -> Sequence[ast.expr]:
    if not isinstance(node.value, ast.Name):
        context.fail(node.value, "only a name can have a subscript; write x[i, j] for more than one")
    if not _indices(node):
        context.fail(node, "a subscript is missing")
    return [node.value, *_indices(node)]


def _subscript(context: _Context, node: ast.Subscript, values: list[Any]) -> Any:
    base, *subscripts = values
    if not isinstance(base, sp.IndexedBase | sp.MatrixSymbol):
        context.fail(node, f"{base} cannot have a subscript")
    for part, value in zip(_indices(node), subscripts, strict=True):
        if _number(context, part, value).is_integer is False:
            context.fail(part, f"{value} is not an integer and cannot be a subscript")
    return base[tuple(subscripts)]


def _tuple(context: _Context, node: ast.Tuple, values: list[Any]) -> Any:
    return tuple(values)


# Functions ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Function:
    """What a name followed by arguments makes: `make` takes the values, or all of (context, node, values)."""

    make: Callable[..., Any]
    fewest: int = 1
    most: int | None = 1  # None: any number
    check: Callable[..., Any] | None = _number  # what every argument must be; None: `make` looks itself

    @property
    def arity(self) -> str:
        """How many arguments it takes, in words."""
        if self.most is None:
            return f"at least {self.fewest} argument{'s' * (self.fewest > 1)}"
        count = str(self.most) if self.most == self.fewest else f"{self.fewest} to {self.most}"
        return f"{count} argument{'s' * (self.most > 1)}"


def _exp(z: Any) -> Any:
    check_exponential(z)
    return sp.exp(z)


def _hyperbolic(make: Callable[..., Any]) -> Callable[..., Any]:
    def build(z: Any) -> Any:
        check_power(sp.E, z)
        return make(z)

    return build


def _piecewise(context: _Context, node: ast.Call, values: list[Any]) -> Any:
    branches = []
    for part, pair in zip(node.args, values, strict=True):
        if not isinstance(part, ast.Tuple) or len(pair) != 2:
            context.fail(part, "Piecewise takes pairs (value, condition)")
        branches.append((_number(context, part.elts[0], pair[0]), _condition(context, part.elts[1], pair[1])))
    return sp.Piecewise(*branches)


def _over_indices(make: Callable[..., Any]) -> Callable[..., Any]:
    def build(context: _Context, node: ast.Call, values: list[Any]) -> Any:
        body, *limits = values
        _number(context, node.args[0], body)
        for part, limit in zip(node.args[1:], limits, strict=True):
            if not isinstance(part, ast.Tuple) or len(limit) != 3 or not isinstance(limit[0], sp.Symbol):
                context.fail(part, f"{node.func.id} takes limits (index, first, last)")  # type: ignore[attr-defined]
            _each(_number, context, part.elts[1:], list(limit[1:]))
        value = make(body, *limits)
        check_closed(value)
        return value

    return build


def _cbrt(x: Any) -> Any:
    return x ** sp.Rational(1, 3)


_MANY: dict[str, Any] = {"fewest": 1, "most": None}
_TWO: dict[str, Any] = {"fewest": 2, "most": 2}
_WHOLE: dict[str, Any] = {"check": None, "fewest": 1, "most": None}
FUNCTIONS: dict[str, _Function] = {
    "exp": _Function(_exp),
    "log": _Function(sp.log, 1, 2), "ln": _Function(sp.log),
    "sqrt": _Function(sp.sqrt), "cbrt": _Function(_cbrt),
    **{f.__name__: _Function(f) for f in (
        sp.sin, sp.cos, sp.tan, sp.asin, sp.acos, sp.atan, sp.tanh, sp.asinh, sp.acosh, sp.atanh,
        sp.erf, sp.erfc)},
    **{f.__name__: _Function(f) for f in (nn.sigmoid, nn.softplus, nn.relu, nn.silu, nn.gelu)},
    "leaky_relu": _Function(nn.leaky_relu, 1, 2), "elu": _Function(nn.elu, 1, 2),
    "sinh": _Function(_hyperbolic(sp.sinh)), "cosh": _Function(_hyperbolic(sp.cosh)),
    "atan2": _Function(cautious(sp.atan2), **_TWO), "Mod": _Function(cautious(sp.Mod), **_TWO),
    "Abs": _Function(cautious(sp.Abs)), "abs": _Function(cautious(sp.Abs)),
    "sign": _Function(cautious(sp.sign)),
    "floor": _Function(cautious(sp.floor)), "ceiling": _Function(cautious(sp.ceiling)),
    "KroneckerDelta": _Function(cautious(sp.KroneckerDelta), **_TWO),
    "Max": _Function(cautious(sp.Max), **_MANY), "max": _Function(cautious(sp.Max), **_MANY),
    "Min": _Function(cautious(sp.Min), **_MANY), "min": _Function(cautious(sp.Min), **_MANY),
    "loggamma": _Function(cautious_special(sp.loggamma)), "digamma": _Function(cautious_special(sp.digamma)),
    "polygamma": _Function(cautious_special(sp.polygamma), **_TWO),
    **{name: _Function(cautious(getattr(sp, name)), **_TWO) for name in ("Eq", "Ne", "Lt", "Le", "Gt", "Ge")},
    **{name: _Function(getattr(sp, name), check=_condition, **_MANY) for name in ("And", "Or", "Xor")},
    "Not": _Function(sp.Not, check=_condition),
    "Piecewise": _Function(_piecewise, **_WHOLE),
    "Sum": _Function(_over_indices(sp.Sum), check=None, fewest=2, most=None),
    "Product": _Function(_over_indices(sp.Product), check=None, fewest=2, most=None),
    "MaxOver": _Function(_over_indices(MaxOver), check=None, fewest=2, most=None),
    "MinOver": _Function(_over_indices(MinOver), check=None, fewest=2, most=None),
}  # fmt: skip


def _call_parts(context: _Context, node: ast.Call) -> Sequence[ast.expr]:
    if not isinstance(node.func, ast.Name):
        context.fail(node.func, "only the name of a function can be called; write * for a product")
    _check_spelling(context, node.func)
    name = node.func.id
    function = FUNCTIONS.get(name)
    if function is None:
        close = difflib.get_close_matches(name, FUNCTIONS, n=2)
        hint = f"; did you mean {' or '.join(close)}?" if close else "; for a product write *"
        context.fail(node.func, f"unknown function {name!r}{hint}")
    if node.keywords:
        context.fail(node.keywords[0], "functions take no keyword arguments")
    count = len(node.args)
    if count < function.fewest or (function.most is not None and count > function.most):
        context.fail(node, f"{name} takes {function.arity}, not {count}")
    return node.args


def _call(context: _Context, node: ast.Call, values: list[Any]) -> Any:
    function = FUNCTIONS[node.func.id]  # type: ignore[attr-defined]
    if function.check is None:
        return function.make(context, node, values)
    return function.make(*_each(function.check, context, node.args, values))


def _no_parts(context: _Context, node: ast.expr) -> Sequence[ast.expr]:
    return ()


_FORMS: dict[type, _Form] = {
    ast.Constant: _Form(_no_parts, _constant),
    ast.Name: _Form(_no_parts, _name),
    ast.BinOp: _Form(_binary_parts, _binary),
    ast.UnaryOp: _Form(lambda context, node: [node.operand], _unary),
    ast.BoolOp: _Form(lambda context, node: node.values, _boolean),
    ast.Compare: _Form(_compare_parts, _compare),
    ast.IfExp: _Form(lambda context, node: _branches(node), _conditional),
    ast.Subscript: _Form(_subscript_parts, _subscript),
    ast.Tuple: _Form(lambda context, node: node.elts, _tuple),
    ast.Call: _Form(_call_parts, _call),
}
