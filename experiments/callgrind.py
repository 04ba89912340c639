"""Lines that programs fetch, counted from their instructions by callgrind.

Owns: running one layer of a peer, or of ours, under callgrind with caches of a given geometry, and
keeping the counts (they are the same every time, and take minutes).
All are AVX2: valgrind knows no AVX-512. It has two levels of caches: its last one is our L2.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from hashlib import sha256
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path

from benchmarks.cpu import Conv, conv_of

from tilewright.codegen.build import find_compiler
from tilewright.codegen.cpu import Cache
from tilewright.codegen.kernel import Generated
from tilewright.codegen.targets import AVX2
from tilewright.folders import cache_folder

ROOT = Path(__file__).parent.parent
PEERS = ("openblas", "mkl", "onednn")
DEBIAN_ONEDNN = Path("/usr/include/oneapi/dnnl/dnnl.h")
QUIET = {
    "OPENBLAS_CORETYPE": "Haswell",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "MKL_THREADING_LAYER": "SEQUENTIAL",
    "MKL_INTERFACE_LAYER": "ILP64",
    "OMP_NUM_THREADS": "1",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
}

MAIN = r"""
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
{include}
static float *numbers(size_t count)
{{
    float *p = aligned_alloc(64, (count * 4 + 63) / 64 * 64);
    for (size_t i = 0; i < count; i++) p[i] = (float)(i % 17) / 17;
    return p;
}}
/* Caches are cold: what the arrays left in them goes out. */
static void flush(void)
{{
    static volatile char other[1 << 23];
    for (size_t i = 0; i < sizeof other; i += 64) other[i] = 1;
}}
int main(void)
{{
{body}
    return 0;
}}
"""

LIBRARY = "TILEWRIGHT_BLAS"
"""The variable that says where the BLAS is: counts stay the same wherever it is installed."""
_MISSES = (("D1mr", "D1mw"), ("DLmr", "DLmw"))
Counts = tuple[int, int]
"""Accesses to L2 and to L3: what L1 and what L2 fetch."""


def count_ours(made: Generated, caches: Sequence[Cache], *, kept: bool = False) -> Counts | None:
    """What one of our programs fetches; `kept` counts nothing anew."""
    layout, program = made.choice.plan.layout, made.program
    sizes = (layout.image_elements, layout.weight_elements, layout.output_elements)
    body = f"""    float *x[] = {{{_numbers(sizes)}}};
    flush();
    {program.name}_run(x[0], x[1], x[2]);"""
    sources = {"kernel.c": program.source}
    function = f"{program.name}_run"
    flags = list(made.flags)
    return callgrind(function, program.declarations, body, sources, flags, caches, kept=kept)


def count_peer(
    peer: str, made: Generated, caches: Sequence[Cache], *, kept: bool = False
) -> Counts | None:
    """What a peer fetches for a layer; `None` if it is not installed."""
    conv = conv_of(made)
    values = ", ".join(str(getattr(conv, field)) for field, *_ in conv._fields_)
    sources = {"peers.c": (ROOT / "benchmarks" / "cpu_peers.c").read_text("utf-8")}
    flags = ["-O2", *AVX2.flags]
    if peer == "onednn":
        return _count_onednn(values, sources, flags, caches, kept=kept)
    library = _blas(peer)
    if library is None:
        return None
    package, path, symbol = library
    body = f"""    /* {package} {metadata.version(package)} */
    void *blas = dlopen(getenv("{LIBRARY}"), RTLD_NOW);
    if (!blas) return 1;
    void *sgemm = dlsym(blas, "{symbol}");
    if (!sgemm) return 2;
    const int64_t c[] = {{{values}}};
    float *x[] = {{{_arrays(conv)}}};
    flush();
    im2col_run(c, sgemm, x[0], x[1], x[2], x[3]);"""
    declared = "void im2col_run(const void *, void *, float *, float *, float *, float *);"
    where = {LIBRARY: str(path)}
    return callgrind("im2col_run", declared, body, sources, flags, caches, kept=kept, where=where)


def _arrays(conv: Conv) -> str:
    depth = conv.inputs * conv.taps_r * conv.taps_s
    pixels = conv.rows * conv.columns
    image = conv.batch * conv.groups * conv.inputs * conv.height * conv.width
    outputs = conv.batch * conv.groups * conv.outputs * pixels
    sizes = (image, conv.groups * conv.outputs * depth, depth * pixels, outputs)
    return _numbers(sizes)


def _numbers(sizes: Sequence[int]) -> str:
    return ", ".join(f"numbers({size})" for size in sizes)


def _blas(peer: str) -> tuple[str, Path, str] | None:
    """The package, its library, and the name of sgemm in it."""
    if peer == "openblas":
        if not find_spec("scipy_openblas64"):
            return None
        folder = Path(import_module("scipy_openblas64").get_lib_dir())
        library = folder / "libscipy_openblas64_.so"
        return "scipy-openblas64", library, "scipy_cblas_sgemm64_"
    found = sorted((Path(sys.prefix) / "lib").glob("libmkl_rt.so*"))
    return ("mkl", found[0], "cblas_sgemm") if found else None


def _count_onednn(
    values: str,
    sources: dict[str, str],
    flags: list[str],
    caches: Sequence[Cache],
    *,
    kept: bool,
) -> Counts | None:
    """Debian's oneDNN, which runs on threads of OpenMP: one, here."""
    if not DEBIAN_ONEDNN.exists():
        return None
    body = f"""    const int64_t c[] = {{{values}}};
    void *conv = onednn_create(c);
    if (!conv) return 1;
    fprintf(stderr, "%s\\n", onednn_implementation(conv));
    flush();
    if (onednn_run(conv)) return 2;"""
    declared = "void *onednn_create(const void *); int onednn_run(void *);"
    declared += " const char *onednn_implementation(void *);"
    more = ["-DWITH_ONEDNN", f"-I{DEBIAN_ONEDNN.parent}", "-ldnnl"]
    flags = [*flags, *more]
    return callgrind("onednn_run", declared, body, sources, flags, caches, kept=kept)


def callgrind(  # noqa: PLR0913, PLR0917
    function: str,
    include: str,
    body: str,
    sources: dict[str, str],
    flags: list[str],
    caches: Sequence[Cache],
    *,
    kept: bool = False,
    where: Mapping[str, str] | None = None,
) -> Counts | None:
    """Lines fetched into L1 and L2 while a function runs: misses of reads and of writes.

    `where` goes into the program's environment, and not into the name of what is kept.
    """
    if not shutil.which("valgrind"):
        return None
    texts = sources | {"main.c": MAIN.format(include=include, body=body)}
    geometry = [f"{c.capacity_bytes},{c.ways},{c.line_bytes}" for c in caches[:2]]
    key = "\0".join([function, *geometry, *flags, *texts.values()])
    file = cache_folder("callgrind") / f"{sha256(key.encode()).hexdigest()[:32]}.json"
    if file.exists():
        first, second = json.loads(file.read_text("utf-8"))
        return first, second
    if kept:
        return None
    with tempfile.TemporaryDirectory() as scratch:
        counts = _run(Path(scratch), function, texts, flags, geometry, where or {})
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(counts), "utf-8")
    return counts


def _run(  # noqa: PLR0913, PLR0917
    folder: Path,
    function: str,
    texts: dict[str, str],
    flags: list[str],
    geometry: list[str],
    where: Mapping[str, str],
) -> Counts:
    for name, text in texts.items():
        (folder / name).write_text(text, "utf-8")
    files = [str(folder / name) for name in texts]
    libraries = [flag for flag in flags if flag.startswith("-l")]
    build = [find_compiler(), "-w", *flags, *files, *libraries, "-ldl", "-o", str(folder / "run")]
    subprocess.run(build, check=True)
    options = ["--tool=callgrind", "--cache-sim=yes", f"--toggle-collect={function}"]
    options += [f"--{label}={c}" for label, c in zip(("D1", "LL"), geometry, strict=True)]
    out = folder / "callgrind.out"
    command = ["valgrind", *options, f"--callgrind-out-file={out}", str(folder / "run")]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env={**os.environ, **QUIET, **where}
    )
    if done.returncode:
        raise RuntimeError(f"callgrind: exit {done.returncode}: {done.stderr[-800:]}")
    text = out.read_text("utf-8")
    events = re.search(r"^events: (.*)$", text, re.MULTILINE)
    totals = re.search(r"^(?:totals|summary): (.*)$", text, re.MULTILINE)
    assert events is not None
    assert totals is not None
    counts = dict(zip(events[1].split(), map(int, totals[1].split()), strict=False))
    first, last = (sum(counts.get(event, 0) for event in pair) for pair in _MISSES)
    return first, last
