"""The folder that `checkpoint=` names: whose it is, the journal of a full-batch fit, the states of a mini-batch one.

A folder belongs to one problem, and to one process at a time. Everything in it is written such that a process that is
killed at any moment leaves either what was there before or what was to be there after.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable, Mapping
from functools import cache
from hashlib import blake2b
from importlib.metadata import version
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from sym2tf.errors import FitError, FitWarning, warn
from sym2tf.fit.process.journal import Answer, Journal
from sym2tf.frontend.describe import describe
from sym2tf.ir.graph import Graph
from sym2tf.lazy import lazy

fcntl = lazy("fcntl")
msvcrt = lazy("msvcrt")

Array = np.ndarray[Any, Any]

IDENTITY = "problem.json"
KEPT = 2  # states, so that a damaged one costs one epoch and not the fit
META = "meta"  # the entry of a state's archive that holds what is no array
PACKAGES = ("sym2tf", "numpy", "scipy", "sympy")


class Checkpoint:
    """The folder of one fit, which this process holds until `close`."""

    def __init__(self, folder: str | PathLike[str], identity: Mapping[str, str]) -> None:
        """Take a folder, made if need be.

        Args:
            folder: where.
            identity: whose it must be; see `identity`.

        Raises:
            FitError: it belongs to another problem, another process works in it, or it cannot be written.
        """
        self._folder = Path(folder)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lock = _locked(self._folder)
        except OSError as error:
            raise _no_folder(self._folder, error) from error
        try:
            _claim(self._folder, identity)
            self._journal = Journal(self._folder / "answers.journal")
        except OSError as error:
            os.close(self._lock)
            raise _no_folder(self._folder, error) from error
        except BaseException:
            os.close(self._lock)
            raise

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def answer(self, kind: str, theta: Array, compute: Callable[[], Answer]) -> Answer:
        """See `Journal.answer`."""
        return self._journal.answer(kind, theta, compute)

    def save_state(self, arrays: Mapping[str, Array], meta: Mapping[str, Any]) -> None:
        """See `save_state`."""
        save_state(self._folder, arrays, meta)

    def load_state(self) -> tuple[dict[str, Array], dict[str, Any]] | None:
        """See `load_state`."""
        return load_state(self._folder)

    def close(self) -> None:
        """Write what is left and let others have the folder."""
        try:
            self._journal.close()
        finally:
            os.close(self._lock)


def identity(graphs: Mapping[str, Graph], arrays: Mapping[str, Array], **rest: Any) -> dict[str, str]:
    """What tells one problem from another, by the part that a message would name.

    Args:
        graphs: by the name of what each computes.
        arrays: data and fixed parameters.
        rest: whatever else must be the same, such as options that decide what a state means.
    """
    parts = {name: _digest_of_graph(graph) for name, graph in graphs.items()}
    parts |= {f"the array {name}": _digest_of_array(array) for name, array in arrays.items()}
    parts |= {name.replace("_", " "): repr(value) for name, value in rest.items()}
    return parts | {f"the version of {package}": number for package, number in _versions().items()}


@cache
def _versions() -> dict[str, str]:
    """Of what the last bits depend on; looking them up takes milliseconds."""
    return {package: version(package) for package in PACKAGES}


def save_state(folder: str | PathLike[str], arrays: Mapping[str, Array], meta: Mapping[str, Any]) -> None:
    """Write one state of a fit: all of it, or nothing.

    Args:
        folder: where; the last two states are kept.
        arrays: by name; names must not be `"meta"`.
        meta: whatever JSON can hold.

    Raises:
        FitError: the folder cannot be written.
    """
    buffer = BytesIO()
    np.savez(buffer, allow_pickle=False, **{META: np.array(json.dumps(dict(meta)))}, **arrays)
    path = Path(folder)
    try:
        states = _states(path)
        number = _number(states[-1]) + 1 if states else 0
        _write(path / f"state-{number:08d}.npz", buffer.getvalue())
        for old in states[: -KEPT + 1 or None] if len(states) >= KEPT else []:
            old.unlink()
    except OSError as error:
        raise _no_folder(path, error) from error


def load_state(folder: str | PathLike[str]) -> tuple[dict[str, Array], dict[str, Any]] | None:
    """The arrays and the rest of the newest state in a folder, None where there is none.

    Warns:
        FitWarning: a state is damaged, and an older one, or none, is taken.
    """
    for path in reversed(_states(Path(folder))):
        try:
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
            return arrays, json.loads(str(arrays.pop(META)))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            warn(FitWarning, f"the checkpoint {path} is damaged ({error}): the one before it is used, if there is one")
    return None


def _states(folder: Path) -> list[Path]:
    return sorted(folder.glob("state-*.npz"), key=_number)


def _number(path: Path) -> int:
    return int(path.stem.partition("-")[2])


def _write(path: Path, data: bytes) -> None:
    """Put a file in place at once: whoever looks sees the old one or all of the new one, also after a crash."""
    temporary = path.with_name(path.name + ".part")
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    if os.name != "nt":  # there folders cannot be opened, and renaming is journalled
        here = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(here)
        finally:
            os.close(here)


def _locked(folder: Path) -> int:
    """A descriptor that keeps other processes out while it is open; the system closes it when the process dies.

    Raises:
        FitError: another fit has the folder.
    """
    file = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if os.name == "nt":
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(file)
        if isinstance(error, BlockingIOError | PermissionError):
            raise FitError(
                f"another fit is working in the checkpoint folder {folder}: wait for it or choose another"
            ) from None
        raise
    return file


def _claim(folder: Path, wanted: Mapping[str, str]) -> None:
    """Write down whose folder it is, or check that it is ours."""
    path = folder / IDENTITY
    if not path.exists():
        _write(path, json.dumps(dict(wanted), indent=1).encode())
        return
    try:
        found = json.loads(path.read_bytes())
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise FitError(f"{path} is damaged: remove the folder to start afresh, or choose another")
    differing = [name for name in dict.fromkeys([*wanted, *found]) if wanted.get(name) != found.get(name)]
    if differing:
        shown = ", ".join(differing[:6]) + (", ..." if len(differing) > 6 else "")
        raise FitError(
            f"the checkpoint folder {folder} belongs to another fit ({shown} differ): "
            "choose another folder, or remove it to start afresh"
        )


def _no_folder(folder: Path, error: OSError) -> FitError:
    return FitError(f"the checkpoint folder {folder} cannot be used: {error.strerror or error}")


def _digest_of_graph(graph: Graph) -> str:
    """Of the operations in their order; independent of names of nodes."""
    places = {v: k for k, v in enumerate(graph.order)}
    total = blake2b(digest_size=16)
    for v in graph.order:
        node = graph[v]
        attributes = [(name, _text(value)) for name, value in sorted(node.attributes.items())]
        operands = [places[u] for u in graph.operands(v)]
        total.update(repr((node.op.name, attributes, str(node.type), operands)).encode())
    total.update(repr([(name, places[v]) for name, v in graph.outputs.items()]).encode())
    return total.hexdigest()


def _text(value: Any) -> str:
    """An attribute of a node as text; numbers in full, however long."""
    if isinstance(value, int):
        return hex(value)
    if hasattr(value, "numerator") and hasattr(value, "denominator"):
        return f"{hex(int(value.numerator))}/{hex(int(value.denominator))}"
    if isinstance(value, tuple):
        return f"({','.join(map(_text, value))})"
    if isinstance(value, np.ndarray):
        return _digest_of_array(value)
    return describe(value, 1000) if hasattr(value, "args") else repr(value)


def _digest_of_array(array: Array) -> str:
    total = blake2b(repr((array.dtype.str, array.shape)).encode(), digest_size=16)
    total.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return total.hexdigest()
