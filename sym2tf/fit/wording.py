"""The grammar of messages: counts with their nouns, types with their articles."""

from __future__ import annotations

from typing import Any


def counted(count: int, noun: str, plural: str = "") -> str:
    """`1 observation`, `2 observations`, `2 axes`."""
    return f"{count} {noun if count == 1 else plural or noun + 's'}"


def kind_of(thing: Any) -> str:
    """`a list`, `an int`: the type of an argument that should have been another."""
    name = type(thing).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
