"""What a user can say in SymPy's terms that SymPy has no words for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sympy as sp
from sympy.concrete.expr_with_limits import AddWithLimits, ExprWithLimits
from sympy.printing.precedence import PRECEDENCE


@dataclass(frozen=True)
class Simplex:
    """The assumption that the elements of an input along an axis are at least 0 and sum to 1.

    Attributes:
        target: the input: a matrix symbol or an indexed base.
        axis: of its core, counted from the left, or from the right if negative.
    """

    target: Any
    axis: int = -1


@dataclass(frozen=True)
class OneHot:
    """The assumption that along an axis of an input one element is 1 and the others are 0; attributes as `Simplex`."""

    target: Any
    axis: int = -1


def over_limits(kind: Any, body: Any, limits: Any) -> Any:
    """A `Sum`, `Product`, `MaxOver` or `MinOver` with its body as it is.

    SymPy's constructors bring every Piecewise with their index to the top of the body (`piecewise_fold`), out of sums
    inside too, whose index is then free in the condition (1.14).
    """
    body = sp.sympify(body)
    if not body.has(sp.Piecewise):
        return kind(body, *limits)
    while type(body) is kind:
        limits = (*body.limits, *limits)
        body = body.function
    plain = kind(sp.Dummy(), *limits)
    made = sp.Expr.__new__(kind, body, *plain.limits)
    made.is_commutative = body.is_commutative
    return made


class _Over(ExprWithLimits):
    """An extreme over indices; the subclasses say which."""

    _extreme: Any = None
    precedence = PRECEDENCE["Mul"]  # printed as sums are: in brackets below a power

    def __new__(cls, function: Any, *limits: Any, **assumptions: Any) -> Any:
        """As `Sum` takes them: `(index, lower, upper)`, or an index alone where the data say its range."""
        if not limits:
            raise ValueError(f"{cls.__name__} needs at least one index")
        if sp.sympify(function).has(sp.Piecewise):
            return over_limits(cls, function, limits)
        made = AddWithLimits.__new__(cls, function, *limits, **assumptions)
        if any(len(limit) == 2 for limit in getattr(made, "limits", ())):
            raise ValueError(f"a limit of {cls.__name__} is (index, lower, upper), or an index alone")
        return made

    def _eval_is_extended_real(self) -> Any:
        return self.function.is_extended_real

    def doit(self, **hints: Any) -> Any:
        """The `Max` or `Min` of all terms where all bounds are numbers, else the expression itself."""
        function = self.function.doit(**hints) if hints.get("deep", True) else self.function
        terms = [(function, self.limits)]
        for _ in self.limits:  # the outermost first: inner bounds may depend on it
            expanded = []
            for term, (*inner, (symbol, *ends)) in terms:
                if len(ends) != 2 or not all(end.is_Integer for end in ends):
                    return self.func(function, *self.limits)
                for k in range(int(ends[0]), int(ends[1]) + 1):
                    limits = [sp.Tuple(s, *(end.subs(symbol, k) for end in more)) for s, *more in inner]
                    expanded.append((term.subs(symbol, k), limits))
            terms = expanded
        return type(self)._extreme(*(term for term, _ in terms))

    def _sympystr(self, printer: Any) -> str:
        limits = [printer._print(limit[0] if len(limit) == 1 else tuple(limit)) for limit in self.limits]
        return f"{type(self).__name__}({', '.join([printer._print(self.function), *limits])})"

    def _latex(self, printer: Any, exp: Any = None) -> str:
        ranges = []
        for symbol, *ends in self.limits:
            text = printer._print(symbol)
            if ends:
                text = rf"{printer._print(ends[0])} \leq {text} \leq {printer._print(ends[1])}"
            ranges.append(text)
        name = "max" if isinstance(self, MaxOver) else "min"
        text = rf"\{name}_{{{', '.join(ranges)}}} {printer.parenthesize(self.function, self.precedence, strict=True)}"
        return text if exp is None else rf"\left({text}\right)^{{{exp}}}"


class MaxOver(_Over):
    """The largest value over indices: `MaxOver(x[i] + y[j], (j, 0, i), (i, 0, n - 1))`, innermost limits first."""

    _extreme = sp.Max


class MinOver(_Over):
    """The smallest value over indices; written as `MaxOver`."""

    _extreme = sp.Min
