"""The one place where heavy modules are imported: on first use, not when sym2tf is.

TensorFlow takes seconds to import and writes to stderr while it does; SciPy's optimisers and matplotlib take
a good part of a second. `import sym2tf` must cost none of that.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import tempfile
from collections.abc import Iterator
from types import ModuleType
from typing import Any


class LazyModule:
    """Stands for a module and imports it when an attribute is asked for."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._module: ModuleType | None = None

    def __getattr__(self, attribute: str) -> Any:
        if self._module is None:
            self._module = _import(self._name)
        return getattr(self._module, attribute)

    def __repr__(self) -> str:
        return f"<lazy module {self._name}>"


def lazy(name: str) -> Any:
    """A module that is imported when it is first used."""
    return LazyModule(name)


def _import(name: str) -> ModuleType:
    if name.split(".", maxsplit=1)[0] != "tensorflow" or "tensorflow" in sys.modules:
        return importlib.import_module(name)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with stderr_kept_quiet():
        module = importlib.import_module(name)
        # looking for GPUs is what complains next, at the first operation; this neither claims nor configures one
        sys.modules["tensorflow"].config.list_physical_devices()
        return module


@contextlib.contextmanager
def stderr_kept_quiet() -> Iterator[None]:
    """Holds back what native code writes to file descriptor 2; shows it after all when an exception passes."""
    sys.stderr.flush()
    try:
        saved = os.dup(2)
    except OSError:  # no stderr at all, as under pythonw: nothing to keep quiet
        yield
        return
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            os.dup2(saved, 2)
            held.seek(0)
            os.write(2, held.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)
