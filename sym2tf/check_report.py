"""What a verification found, for programs and for people."""

from __future__ import annotations

import html
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

ULP_QUESTIONS = ("values", "gradient values")  # the others count relative errors


@dataclass(frozen=True)
class Comparison:
    """One output under one question.

    Attributes:
        question: `"rewriting"`, `"values"`, `"gradient"`, `"second derivative"`, `"gradient values"` or `"tape"`.
        output: name of the output (and of the input, for derivatives).
        points: how many numbers were compared.
        skipped: why others were not, and how many.
        error: the worst error, judged by what is allowed: in ULP for values, else relative.
        allowed: what was allowed there, in the same unit.
        point: the inputs there.
        got: the number there.
        expected: the number that the judge gives.
        ok: whether every number was within what is allowed.
    """

    question: str
    output: str
    points: int
    skipped: dict[str, int] = field(default_factory=dict)
    error: float = 0.0
    allowed: float = 0.0
    point: dict[str, Any] = field(default_factory=dict)
    got: Any = None
    expected: Any = None
    ok: bool = True


@dataclass(frozen=True, repr=False)
class CheckReport:
    """What a verification found.

    Attributes:
        title: what was checked.
        comparisons: every output under every question.
        outside: how many sampled points are outside the domain (the value is not finite), with an example.
        seconds: how long it took.
    """

    title: str
    comparisons: tuple[Comparison, ...]
    outside: tuple[int, dict[str, Any]]
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether everything was within what is allowed."""
        return all(c.ok for c in self.comparisons)

    @property
    def failures(self) -> tuple[Comparison, ...]:
        """The comparisons that were not."""
        return tuple(c for c in self.comparisons if not c.ok)

    @property
    def worst(self) -> Comparison | None:
        """The comparison with the largest error in units of what was allowed."""
        return max(self.comparisons, key=_severity, default=None)

    def __str__(self) -> str:
        rows = [("", "question", "output", "numbers", "worst error", "allowed", "at"), *map(_row, self._shown())]
        widths = [max(len(row[k]) for row in rows) for k in range(6)]
        lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, (*widths, 0), strict=True)).rstrip() for row in rows]
        skipped: Counter[str] = Counter()
        for c in self.comparisons:
            skipped.update(c.skipped)
        notes = [f"not compared: {n} numbers, {why}" for why, n in skipped.items()]
        if self.outside[0]:
            example = text_of(self.outside[1])
            notes.append(f"{self.outside[0]} sampled points are outside the domain (no finite value), e.g. {example}")
        notes += [
            f"FAILED {c.question} of {c.output}: got {c.got}, expected {c.expected} at {text_of(c.point)}"
            for c in self.failures
        ]
        head = f"check of {self.title}: {'ok' if self.ok else 'FAILED'} in {self.seconds:.1f} s"
        return "\n".join([head, *lines, *notes])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"

    def _shown(self) -> list[Comparison]:
        """For each question the worst output, with the numbers of all, and whatever else failed."""
        shown = []
        for question in dict.fromkeys(c.question for c in self.comparisons):
            asked = [c for c in self.comparisons if c.question == question]
            worst = max(asked, key=_severity)
            output = worst.output + (f" (worst of {len(asked)})" if len(asked) > 1 else "")
            shown.append(replace(worst, output=output, points=sum(c.points for c in asked)))
            shown += [c for c in asked if not c.ok and c is not worst]
        return shown


def text_of(point: dict[str, Any]) -> str:
    """A point as text, with the first few elements of data."""

    def short(value: Any) -> str:
        if isinstance(value, list):
            return f"[{', '.join(map(short, value[:4]))}]"
        return f"{value:.6g}" if isinstance(value, float) else str(value)

    return ", ".join(f"{name}={short(value)}" for name, value in point.items())


def _severity(c: Comparison) -> tuple[bool, float]:
    return not c.ok, c.error / (c.allowed or 1.0)


def _row(c: Comparison) -> tuple[str, ...]:
    verdict = "ok" if c.ok else "FAILED"
    if not c.points:
        return verdict, c.question, c.output, "0", "", "", ""
    unit = "ulp" if c.question in ULP_QUESTIONS else "relative"
    return verdict, c.question, c.output, str(c.points), f"{c.error:.2g} {unit}", f"{c.allowed:.2g}", text_of(c.point)
