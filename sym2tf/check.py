"""Verification (being written)."""

from __future__ import annotations

from typing import Any


class CheckReport:
    """Placeholder until the real report lands."""


def check_function(function: Any, **options: Any) -> CheckReport:
    """Placeholder."""
    raise NotImplementedError
