"""Dimensions are integer polynomials: their arithmetic is that of numbers, in one canonical form."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sym2tf.errors import ShapeError
from sym2tf.ir.dims import (
    Dim,
    Size,
    broadcast_sizes,
    evaluate_size,
    linear_in_one,
    size_names,
    size_symbol,
    substitute_size,
)

NAMES = "kmn"
values = st.fixed_dictionaries({name: st.integers(-5, 9) for name in NAMES})


def combined(children: st.SearchStrategy[Size]) -> st.SearchStrategy[Size]:
    pairs = st.tuples(children, children)
    return pairs.map(lambda p: p[0] + p[1]) | pairs.map(lambda p: p[0] - p[1]) | pairs.map(lambda p: p[0] * p[1])


sizes = st.recursive(st.integers(-4, 4) | st.sampled_from(NAMES).map(size_symbol), combined, max_leaves=6)


@given(sizes, sizes, values)
def test_arithmetic_on_sizes_is_arithmetic_on_their_values(a: Size, b: Size, at: dict[str, int]) -> None:
    x, y = evaluate_size(a, at), evaluate_size(b, at)
    assert evaluate_size(a + b, at) == x + y
    assert evaluate_size(a - b, at) == x - y
    assert evaluate_size(a * b, at) == x * y
    assert evaluate_size(-a, at) == -x


@given(sizes, sizes, sizes)
def test_equal_polynomials_are_equal_objects(a: Size, b: Size, c: Size) -> None:
    assert a + b == b + a
    assert a * b == b * a
    assert (a + b) + c == a + (b + c)
    assert a * (b + c) == a * b + a * c
    assert hash(a * (b + c)) == hash(a * b + a * c)
    assert a - a == 0


@given(sizes)
def test_a_constant_polynomial_is_a_plain_int_and_names_are_those_that_matter(a: Size) -> None:
    assert isinstance(a, int) is (not size_names(a))
    assert (a * 0, a + 0, a * 1) == (0, a, a)
    assert isinstance(a, int) or all(coefficient for _, coefficient in a.terms)


@given(sizes, st.fixed_dictionaries(dict.fromkeys("mn", sizes)), values)
def test_substitution_then_evaluation_is_evaluation_of_what_was_put_in(
    a: Size, inner: dict[str, Size], at: dict[str, int]
) -> None:
    outer = at | {name: evaluate_size(size, at) for name, size in inner.items()}
    assert evaluate_size(substitute_size(a, inner), at) == evaluate_size(a, outer)


@given(sizes, values)
def test_what_is_printed_reads_back_as_the_same_polynomial(a: Size, at: dict[str, int]) -> None:
    assert eval(str(a), {"__builtins__": {}}, dict(at)) == evaluate_size(a, at)  # noqa: S307 our own text


@pytest.mark.parametrize(
    ("build", "due"),
    [
        (lambda n, m: n - 1, "n-1"),
        (lambda n, m: n * m - 2 * n + 3, "m*n-2*n+3"),
        (lambda n, m: -n * n, "-n*n"),
        (lambda n, m: 1 - n, "-n+1"),
    ],
)
def test_a_size_prints_as_mathematics(build: object, due: str) -> None:
    assert str(build(size_symbol("n"), size_symbol("m"))) == due


@given(st.integers(-9, 9), st.integers(-9, 9))
def test_a_linear_size_gives_back_slope_and_offset(slope: int, offset: int) -> None:
    form = linear_in_one(slope * size_symbol("n") + offset)
    assert form == (("n", slope, offset) if slope else None)


@pytest.mark.parametrize("text", ["n*n", "n*m", "n+m", "n*m+n"])
def test_a_size_that_one_length_cannot_bind_has_no_linear_form(text: str) -> None:
    size = eval(text, {"n": size_symbol("n"), "m": size_symbol("m")})  # noqa: S307 our own text
    assert linear_in_one(size) is None


def test_broadcasting_takes_the_one_size_that_is_not_one() -> None:
    n = size_symbol("n")
    assert broadcast_sizes([]) == 1
    assert broadcast_sizes([1, n, 1, n]) == n
    assert broadcast_sizes([1, 3]) == 3


@pytest.mark.parametrize("pair", [(2, 3), (size_symbol("n"), 2), (size_symbol("n"), size_symbol("n") - 1)])
def test_two_sizes_that_differ_do_not_broadcast_and_both_are_named(pair: tuple[Size, Size]) -> None:
    with pytest.raises(ShapeError) as caught:
        broadcast_sizes(pair)
    assert all(str(size) in str(caught.value) for size in pair)


def test_a_size_without_its_value_is_an_error() -> None:
    with pytest.raises(KeyError, match="n"):
        evaluate_size(size_symbol("n") + 1, {"m": 2})


def test_sizes_are_immutable() -> None:
    with pytest.raises(AttributeError):
        size_symbol("n").terms = ()  # type: ignore[misc]
    assert isinstance(size_symbol("n"), Dim)
