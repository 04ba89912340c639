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
    return _jit(function)


def compiled_in_place(function: Callable[P, R]) -> Callable[P, R]:
    """The same for a function that allocates nothing.

    Without counting references it compiles several times faster where many arrays are passed.
    """
    return _jit(function, _nrt=False)


def compiled_inside(function: Callable[P, R]) -> Callable[P, R]:
    """The same for a function that compiled ones call only: it cannot be called from Python.

    Taking dozens of arrays from Python is most of what there is to compile.
    """
    return _jit(function, _nrt=False, no_cpython_wrapper=True, no_cfunc_wrapper=True)


def _jit(function: Callable[P, R], **options: bool) -> Callable[P, R]:
    jit = cast(Callable[..., Callable[[Callable[P, R]], Callable[P, R]]], njit)
    # divisors are never 0: without a check for each there is less to compile
    return jit(cache=True, nogil=True, error_model="numpy", **options)(function)
