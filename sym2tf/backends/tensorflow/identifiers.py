"""Names for generated code: the user's where they are plain identifiers, invented ones everywhere else.

Only ASCII letters, digits and underscores that sym2tf itself has put together ever reach the code, so no name can
carry text into it, and none can be folded to another one by Python's normalisation of identifiers.
"""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Iterable

_WORD = re.compile(r"[^A-Za-z0-9]+")
_MAX = 40


class Names:
    """Hands out identifiers, each once."""

    def __init__(self, reserved: Iterable[str] = ()) -> None:
        self._taken = {*keyword.kwlist, *keyword.softkwlist, *dir(builtins), *reserved}
        self._next: dict[str, int] = {}

    def new(self, wish: str, fallback: str = "t") -> str:
        """An unused identifier like `wish`: its letters and digits, or `fallback` where it has none."""
        word = _WORD.sub("_", wish).strip("_")[:_MAX].rstrip("_")
        if not word or word[0].isdigit():
            word = f"{fallback}_{word}" if word else fallback
        name = word
        while name in self._taken:
            self._next[word] = k = self._next.get(word, 0) + 1
            name = f"{word}_{k}"
        self._taken.add(name)
        return name
