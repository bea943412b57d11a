"""Matrix expressions and explicit matrices."""

from __future__ import annotations

from typing import Any

from sym2tf.frontend.handlers import Handler

HANDLERS: dict[Any, Handler] = {}
