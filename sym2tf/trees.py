"""Nests of lists, tuples, named tuples and dicts: taken apart into leaves and put together again.

What is compiled keeps the structure that the user gave, so arguments and results are such nests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any


def is_nest(thing: Any) -> bool:
    """Whether `thing` is taken apart (a list, tuple or dict) rather than being a leaf."""
    return isinstance(thing, list | tuple | Mapping)


def map_nest(function: Callable[[Any, str], Any], thing: Any, path: str = "") -> Any:
    """`thing` with every leaf replaced by `function(leaf, path)`; paths look like `[0]['loss']`."""
    if isinstance(thing, Mapping):
        return {k: map_nest(function, v, f"{path}[{k!r}]") for k, v in thing.items()}
    if isinstance(thing, list | tuple):
        items = [map_nest(function, v, f"{path}[{k}]") for k, v in enumerate(thing)]
        if isinstance(thing, list):
            return items
        return type(thing)(*items) if hasattr(thing, "_fields") else tuple(items)
    return function(thing, path)


def leaves(thing: Any) -> Iterator[Any]:
    """The leaves in order."""
    if isinstance(thing, Mapping):
        for v in thing.values():
            yield from leaves(v)
    elif isinstance(thing, list | tuple):
        for v in thing:
            yield from leaves(v)
    else:
        yield thing


def refill(thing: Any, values: Iterable[Any]) -> Any:
    """A nest of the same structure with other leaves, in order."""
    source = iter(values)
    return map_nest(lambda leaf, path: next(source), thing)


def match_nest(pattern: Any, thing: Any, path: str = "") -> Iterator[tuple[Any, Any, str]]:
    """`(leaf of the pattern, what stands in its place, path)`.

    Raises:
        ValueError: the structures differ; the message says where.
    """
    if isinstance(pattern, Mapping):
        if not isinstance(thing, Mapping) or set(thing) != set(pattern):
            raise ValueError(f"argument{path} must be a dict with the keys {sorted(map(str, pattern))}")
        for k, v in pattern.items():
            yield from match_nest(v, thing[k], f"{path}[{k!r}]")
    elif isinstance(pattern, list | tuple):
        if not hasattr(thing, "__len__") or len(thing) != len(pattern):
            raise ValueError(f"argument{path} must have {len(pattern)} entries")
        for k, v in enumerate(pattern):
            yield from match_nest(v, thing[k], f"{path}[{k}]")
    else:
        yield pattern, thing, path
