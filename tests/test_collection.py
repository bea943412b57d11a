"""The garbage collector is paused while graphs are built, and always turned on again."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator

import pytest
import sympy as sp

from sym2tf.collection import collection_paused
from sym2tf.errors import UnsupportedExpressionError
from sym2tf.frontend.lower import lower


@pytest.fixture(autouse=True)
def enabled() -> Iterator[None]:
    gc.enable()
    yield
    gc.enable()


def test_collection_is_off_inside_and_on_afterwards() -> None:
    with collection_paused():
        assert not gc.isenabled()
        with collection_paused():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


def test_a_collector_that_the_user_turned_off_stays_off() -> None:
    gc.disable()
    with collection_paused():
        pass
    assert not gc.isenabled()


def test_an_error_turns_the_collector_on_again() -> None:
    with pytest.raises(UnsupportedExpressionError):
        lower(sp.Function("f")(sp.Symbol("x")).diff(sp.Symbol("x")).subs(sp.Symbol("x"), 2) + sp.I)
    assert gc.isenabled()


def test_the_last_of_several_threads_turns_it_on() -> None:
    inside, leave = threading.Event(), threading.Event()

    def stay() -> None:
        with collection_paused():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=stay)
    thread.start()
    inside.wait(10)
    with collection_paused():
        pass
    assert not gc.isenabled()
    leave.set()
    thread.join()
    assert gc.isenabled()
