"""Pauses Python's cyclic garbage collector while a graph is built.

A graph of 100 000 nodes is millions of small containers, all of them alive. The collector goes through them again and
again and finds nothing: a quarter to a half of the time, more the larger the graph. References are counted all the
while, so only cycles wait, and they wait for the end of one stage.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class _Stages:
    """How many are under way, in all threads together, and whether the collector was on before the first of them."""

    count: int = 0
    was_enabled: bool = False


_lock = threading.Lock()
_stages = _Stages()


@contextmanager
def collection_paused() -> Iterator[None]:
    """No cyclic collection inside; also a decorator.

    Stages may nest and run in several threads: the last one out turns the collector on again, if it was on.
    """
    with _lock:
        if _stages.count == 0:
            _stages.was_enabled = gc.isenabled()
            gc.disable()
        _stages.count += 1
    try:
        yield
    finally:
        with _lock:
            _stages.count -= 1
            if _stages.count == 0 and _stages.was_enabled:
                gc.enable()
