"""What a new user tries in an afternoon: words that are understood, warnings that come in time, objects that travel."""

from __future__ import annotations

import pytest
import sympy as sp

import sym2tf
from sym2tf.errors import UnsupportedExpressionError

x, y, z = sp.symbols("x y z")
i, n = sp.symbols("i n", integer=True)
X, Y = sp.IndexedBase("X"), sp.IndexedBase("Y")
q = sp.Function("q")


# Symbols that an expression binds ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "expression",
    [
        sp.Integral(sp.exp(-x * y), (y, 0, 1)),
        sp.Integral(sp.exp(-x), x),
        sp.Integral(sp.Sum(X[i] * y, (i, 0, n - 1)), (y, 0, n)),
        sp.Limit(sp.sin(x * y) / y, y, 0),
        sp.Subs(sp.Derivative(q(y), y), y, x),
        sp.Derivative(sp.sin(x * y), y),
        sp.Lambda(x, x + y),
        sp.Contains(x, sp.ImageSet(sp.Lambda(y, y**2), sp.S.Integers)),
    ],
    ids=lambda e: type(e).__name__,
)
def test_expressions_that_bind_symbols_are_refused_by_name(expression):
    with pytest.raises(UnsupportedExpressionError) as caught:
        sym2tf.lower(1 + z * expression if isinstance(expression, sp.Expr) else expression)
    assert [item.expression for item in caught.value.items] == [str(expression)]


def test_the_symbol_of_a_set_by_condition_is_no_argument():
    members = sp.ConditionSet(y, y > z, sp.S.Reals)
    assert sym2tf.lower(sp.Contains(x, members)).info["args"] == ("x", "z")
