"""What goes to stdout and stderr: data as UTF-8 for programs, text for people in what their terminal can show."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TextIO

from sym2tf.errors import RenderError


def write_data(data: str | bytes) -> None:
    """Put what a program will read on stdout, byte for byte; on a terminal text is shown as text."""
    stream = getattr(sys.stdout, "buffer", None)
    if isinstance(data, str) and (stream is None or sys.stdout.isatty()):
        sys.stdout.write(data)
        return
    if stream is None:
        raise RenderError("this stdout takes no bytes: give a file with -o")
    sys.stdout.flush()
    stream.write(data.encode() if isinstance(data, str) else data)
    stream.flush()


def notice(text: str) -> None:
    """Tell people something that is not the answer."""
    sys.stderr.write(f"{text}\n")


@contextlib.contextmanager
def showing_everything(stream: TextIO) -> Iterator[None]:
    """Characters that the encoding of `stream` lacks come out escaped instead of ending the program."""
    if not hasattr(stream, "reconfigure"):
        yield
        return
    before = stream.errors
    stream.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        with contextlib.suppress(OSError, ValueError):  # a broken pipe: there is nothing left to restore
            stream.reconfigure(errors=before)


def discard_output() -> None:
    """Send what is still buffered nowhere, so that Python does not complain when it flushes at exit."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
