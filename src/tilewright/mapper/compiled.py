"""Compilation of the search's kernels: Numba, loaded when a mapper is, with its cache on disk.

Owns: the one place that touches Numba, which has no types.
"""

from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

from numba import njit  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

P = ParamSpec("P")
R = TypeVar("R")


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function to machine code when it is first called; later runs load it from disk."""
    jit = cast(Callable[[Callable[P, R]], Callable[P, R]], njit(cache=True, nogil=True))
    return jit(function)


def compiled_in_place(function: Callable[P, R]) -> Callable[P, R]:
    """The same for a function that allocates nothing.

    Without counting references it compiles several times faster where many arrays are passed.
    """
    jit = cast(Callable[[Callable[P, R]], Callable[P, R]], njit(cache=True, nogil=True, _nrt=False))
    return jit(function)
