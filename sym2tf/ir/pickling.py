"""What of the objects in a graph can be pickled: an expression too deep for the recursion of `pickle` is left out."""

from __future__ import annotations

from typing import Any

DEEPEST = 60  # levels; pickle takes a dozen Python frames for some of them


class Depths:
    """Depths of expressions (anything with `args`), each distinct object looked at once."""

    def __init__(self) -> None:
        self._known: dict[int, int] = {}
        self._alive: list[Any] = []  # an id is that of its object only as long as that lives

    def shallow(self, thing: Any) -> Any:
        """`thing`, or None where it is too deep to be pickled."""
        return thing if self._depth(thing) <= DEEPEST else None

    def _depth(self, root: Any) -> int:
        stack = [root]
        while stack:
            thing = stack[-1]
            args = _args(thing)
            unknown = [a for a in args if id(a) not in self._known]
            if unknown:
                stack.extend(unknown)
                continue
            stack.pop()
            if id(thing) not in self._known:
                self._known[id(thing)] = 1 + max((self._known[id(a)] for a in args), default=0)
                self._alive += (thing, args)
        return self._known[id(root)]


def _args(thing: Any) -> tuple[Any, ...]:
    args = getattr(thing, "args", ())
    return args if isinstance(args, tuple) else ()
