"""From the text of a program to a shared library: the system's compiler, and a cache by content.

Owns: finding the compiler, its flags, what is kept in the cache.

Non-goals: loading the library (`kernel.py`).
"""

import os
import shutil
import subprocess
import tempfile
from hashlib import sha256
from pathlib import Path

from tilewright.codegen.targets import Target
from tilewright.errors import MissingToolError, Problem
from tilewright.folders import cache_folder

FLAGS = ("-std=c11", "-O2", "-ffp-contract=fast", "-Wall", "-Wextra")
SHARED = ("-shared", "-fPIC")
INSTALL = "install gcc (Debian: apt install gcc; Fedora: dnf install gcc), or set CC to a compiler"
SECONDS_TO_COMPILE = 300
COMPILERS = ("cc", "gcc", "clang")


def find_compiler() -> str:
    """The C compiler: `$CC`, or the first of cc, gcc, clang.

    Raises: `MissingToolError` if there is none.
    """
    wanted = os.environ.get("CC")
    for name in [wanted] if wanted else COMPILERS:
        found = shutil.which(name)
        if found:
            return found
    what = f"there is no C compiler `{wanted}` ($CC)" if wanted else "there is no C compiler"
    raise MissingToolError(Problem(what, INSTALL))


def compiler_flags(target: Target, *, threads: int) -> tuple[str, ...]:
    """What the compiler is told, besides the files."""
    parallel = ("-fopenmp",) if threads > 1 else ("-Wno-unknown-pragmas",)
    return (*FLAGS, *target.flags, *parallel)


def build_library(name: str, text: str, flags: tuple[str, ...]) -> Path:
    """Compile a program, unless the cache has it; returns the library.

    `name` is what messages of the compiler call the text. In the cache the name is a digest of
    the text, the compiler and its flags. A library appears under it only when it is complete, so
    that several processes may build the same one.

    Raises: `MissingToolError` if there is no compiler, or it fails, or the cache cannot be written.
    """
    compiler = find_compiler()
    key = "\0".join([text, _identity(compiler), *flags])
    digest = sha256(key.encode()).hexdigest()[:32]
    folder = cache_folder("c") / digest[:2]
    library = folder / f"{digest}.so"
    if library.is_file():
        return library
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            source = Path(scratch) / f"{name}.c"
            source.write_text(text, "utf-8")
            fresh = Path(scratch) / "fresh.so"
            libraries = [flag for flag in flags if flag.startswith("-l")]
            rest = [flag for flag in flags if flag not in libraries]
            files = [str(source), "-o", str(fresh), *libraries]
            run_compiler(compiler, [*rest, *SHARED, *files])
            fresh.replace(library)
    except OSError as error:
        what = f"the cache {folder} cannot be written: {error.strerror or error}"
        raise MissingToolError(Problem(what, "set TILEWRIGHT_CACHE to a folder")) from None
    return library


def run_compiler(compiler: str, arguments: list[str]) -> None:
    """Run the compiler. Raises `MissingToolError`, with the first lines it wrote, if it fails."""
    command = [compiler, *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=SECONDS_TO_COMPILE, check=False
        )
    except subprocess.TimeoutExpired:
        what = f"{compiler} took more than {SECONDS_TO_COMPILE} s"
        raise MissingToolError(Problem(what, "compile fewer or smaller layers")) from None
    if done.returncode:
        said = " / ".join(done.stderr.strip().split("\n")[:4])[:600]
        raise MissingToolError(Problem(f"{compiler} failed: {said}", INSTALL))


def _identity(compiler: str) -> str:
    """The compiler, so that another one, or a newer one, builds anew."""
    status = Path(compiler).resolve().stat()
    return f"{Path(compiler).resolve()} {status.st_size} {status.st_mtime_ns}"
