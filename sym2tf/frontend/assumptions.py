"""What the user says about inputs (`assume=`), as the facts that stand on input nodes.

A fact is a word: `"symmetric"`, `"positive_definite"`, `"orthogonal"`, `"lower_triangular"`, `"upper_triangular"`,
`"diagonal"`, `"invertible"`; and `"simplex:-1"`, `"one_hot:-1"` with the axis counted from the right.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import sympy as sp
from sympy.assumptions import AppliedPredicate
from sympy.assumptions.assume import global_assumptions

from sym2tf.errors import ArgumentError, ShapeError
from sym2tf.frontend.context import leaf_name
from sym2tf.frontend.describe import describe
from sym2tf.ir.types import TensorType
from sym2tf.notation import OneHot, Simplex
from sym2tf.trees import is_nest, leaves

PREDICATES: Mapping[Any, str] = {
    sp.Q.symmetric: "symmetric",
    sp.Q.positive_definite: "positive_definite",
    sp.Q.orthogonal: "orthogonal",
    sp.Q.unitary: "orthogonal",
    sp.Q.lower_triangular: "lower_triangular",
    sp.Q.upper_triangular: "upper_triangular",
    sp.Q.diagonal: "diagonal",
    sp.Q.invertible: "invertible",
}
ALONG_AXIS: Mapping[type, str] = {Simplex: "simplex", OneHot: "one_hot"}
OF_ANY_SHAPE = ("lower_triangular", "upper_triangular", "diagonal")  # the others need a square matrix
_USE = "use Q.symmetric(A), Q.positive_definite(A) and the like, joined by &, Simplex(t, axis) or OneHot(t, axis)"


def known_facts(assume: Any, types: Mapping[Any, TensorType]) -> dict[Any, frozenset[str]]:
    """The facts about each input.

    Args:
        assume: a predicate, a conjunction of some, a `Simplex` or `OneHot`, or a nest of these.
        types: the inputs and their types.

    Returns:
        Facts by input, also those that SymPy's `assuming` says about inputs at the moment.

    Raises:
        ArgumentError: an unknown predicate, or one about something that is not an input.
        ShapeError: a predicate about matrices for an input that is no matrix, or not square.
    """
    facts: dict[Any, set[str]] = {}
    for item in _conjuncts(leaves(assume) if is_nest(assume) else [assume]):
        target, fact = _fact(item, types)
        facts.setdefault(target, set()).add(fact)
    for item in _conjuncts(global_assumptions):
        if isinstance(item, AppliedPredicate) and item.function in PREDICATES and item.arguments[0] in types:
            target, fact = _fact(item, types)
            facts.setdefault(target, set()).add(fact)
    return {target: frozenset(said) for target, said in facts.items()}


def _conjuncts(items: Iterable[Any]) -> Iterable[Any]:
    pending = list(items)[::-1]
    while pending:
        item = pending.pop()
        if isinstance(item, sp.And):
            pending.extend(item.args)
        elif item is not sp.true:
            yield item


def _fact(item: Any, types: Mapping[Any, TensorType]) -> tuple[Any, str]:
    if type(item) in ALONG_AXIS:
        return _axis_fact(item, types)
    if not isinstance(item, AppliedPredicate):
        what = item if isinstance(item, str) else describe(item)
        raise ArgumentError(f"assume: {what!r} is no assumption; {_USE}")
    word = PREDICATES.get(item.function)
    if word is None:
        known = ", ".join(f"Q.{predicate.name}" for predicate in PREDICATES)
        raise ArgumentError(f"assume: {item} is not one that sym2tf uses; it knows {known}, Simplex and OneHot")
    (target,) = item.arguments
    shape = _input(target, item, types).shape
    if len(shape) != 2 or (word not in OF_ANY_SHAPE and shape[0] != shape[1]):
        kind = "a matrix" if word in OF_ANY_SHAPE else "a square matrix"
        raise ShapeError(f"assume: {item} is about {kind}; {leaf_name(target)} has core shape {_text(shape)}")
    return target, word


def _axis_fact(item: Any, types: Mapping[Any, TensorType]) -> tuple[Any, str]:
    said = f"{type(item).__name__}({describe(item.target)}, axis={item.axis})"
    shape = _input(item.target, said, types).shape
    if not isinstance(item.axis, int) or not -len(shape) <= item.axis < len(shape):
        raise ShapeError(f"assume: {said}: {leaf_name(item.target)} has core shape {_text(shape)}, without that axis")
    axis = item.axis - len(shape) if item.axis >= 0 else item.axis
    return item.target, f"{ALONG_AXIS[type(item)]}:{axis}"


def _input(target: Any, item: Any, types: Mapping[Any, TensorType]) -> TensorType:
    try:
        found = types.get(target)
    except TypeError:  # an explicit matrix has no hash
        found = None
    if found is None:
        inputs = ", ".join(sorted(leaf_name(leaf) for leaf in types)) or "none"
        raise ArgumentError(f"assume: {item} is about {describe(target)}, which is no input; inputs: {inputs}")
    return found


def _text(shape: tuple[Any, ...]) -> str:
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"
