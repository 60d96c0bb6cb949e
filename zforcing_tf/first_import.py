"""Makes the first import of TensorFlow and Keras in a program a third quicker.

Keras, which TensorFlow imports, takes scikit-learn and matplotlib along wherever they are
installed, for wrappers and plots that no program here uses; and while so many modules are made,
Python's garbage collector looks through all of them again and again.
"""

import contextlib
import gc
import importlib.abc
import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from importlib.machinery import ModuleSpec
from types import ModuleType

LEFT_OUT = ("matplotlib", "pandas", "sklearn")
"""Packages that Keras uses where it finds them and does without otherwise."""


class ImportUnder(importlib.abc.MetaPathFinder):
    """On `sys.meta_path`: runs the first import of a module, wherever it happens, in a context."""

    def __init__(self, name: str, context: Callable[[], AbstractContextManager[None]]) -> None:
        self._name = name
        self._context = context
        self._looking = False

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module's own specification, but executed in the context; None for others."""
        if fullname != self._name or self._looking:
            return None
        # Who only asks whether a module is there does not import it.
        self._looking = True
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._looking = False
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_in_context(module: ModuleType) -> None:
                sys.meta_path.remove(self)
                with self._context():
                    execute(module)

            spec.loader.exec_module = execute_in_context  # type: ignore[method-assign]
        return spec


class _Absent(importlib.abc.MetaPathFinder):
    """On `sys.meta_path`: lets packages seem not to be installed."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> None:
        """Finds nothing, and lets no other finder look for `LEFT_OUT`."""
        if fullname in LEFT_OUT:
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)


@contextlib.contextmanager
def spared() -> Iterator[None]:
    """Imports without `LEFT_OUT` and without garbage collection.

    What has been imported by its end stays until the process ends, and no later collection looks
    through it: that would take longer than a training step.
    """
    absent, collecting = _Absent(), gc.isenabled()
    sys.meta_path.insert(0, absent)
    gc.disable()
    try:
        yield
    finally:
        sys.meta_path.remove(absent)
        gc.freeze()
        if collecting:
            gc.enable()


def prepare() -> None:
    """To be called before TensorFlow is imported; changes nothing if it has been."""
    for name in ("keras", "tensorflow"):  # each imports the other
        if name not in sys.modules:
            sys.meta_path.insert(0, ImportUnder(name, spared))
