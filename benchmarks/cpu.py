"""Our C programs against oneDNN, PyTorch, onnxruntime and im2col with a BLAS: benchmarks/CPU.md.

One core, CPU time, samples in random turns, medians; then all on two cores, wall time, in a process
of its own. Weights and activations are packed before time is taken, for all but im2col, whose copy
is part of it. What is not installed is left out:
    pip install onednn onednn-devel onnxruntime scipy-openblas64 mkl torch
Run: python benchmarks/cpu.py [--seconds S] [--networks vgg16,…] [--json FILE]
(`nice -n -15` before it, as root, where others use the machine)
"""

import argparse
import ctypes
import json
import math
import os
import random as chance
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import tilewright as tw
from tilewright.codegen import cpu as cpus
from tilewright.codegen.build import find_compiler
from tilewright.codegen.kernel import Generated, Kernel

HERE = Path(__file__).parent
NETWORKS = ("alexnet", "vgg16", "resnet18", "mobilenetv2")
NAMES = ("onednn", "torch", "torch packed", "ort", "openblas", "mkl")
SAMPLE_SECONDS = 0.004
TWO_CORES_PEAK = 1.9
"""Of one core's peak: below, two cores are not there to be had, and ratios on them say little."""
Array = NDArray[Any]
Run = Callable[[], object]
Clock = Callable[[], float]


class Conv(ctypes.Structure):
    """A convolution, as benchmarks/cpu_peers.c wants it."""

    _fields_ = [
        (name, ctypes.c_int64)
        for name in (
            *("batch", "groups", "inputs", "outputs", "height", "width", "rows", "columns"),
            *("taps_r", "taps_s", "stride_h", "stride_w", "dilation_h", "dilation_w"),
            *("top", "left", "bottom", "right"),
        )
    ]


def conv_of(made: Generated) -> Conv:
    s = made.shape
    rows, columns = s.rows, s.columns

    def after(axis: Any) -> int:
        touched = (axis.places - 1) * axis.stride + (axis.taps - 1) * axis.dilation + 1
        return max(touched - axis.before - axis.size, 0)

    return Conv(
        s.batch, s.groups, s.inputs, s.outputs, rows.size, columns.size, rows.places,
        columns.places, rows.taps, columns.taps, rows.stride, columns.stride, rows.dilation,
        columns.dilation, rows.before, columns.before, after(rows), after(columns),
    )  # fmt: skip


@dataclass
class Peers:
    """What is installed of the others."""

    library: Any
    onednn: bool
    cores: int = 1
    blas: dict[str, Any] = field(default_factory=dict[str, Any])
    openblas_core: str = ""
    keep: list[Any] = field(default_factory=list[Any])

    def onednn_run(self, conv: Conv) -> tuple[Run, str] | None:
        if not self.onednn:
            return None
        handle = self.library.onednn_create(ctypes.byref(conv))
        if not handle:
            return None
        name = self.library.onednn_implementation(handle).decode()
        return (lambda: self.library.onednn_run(handle)), name

    def blas_run(self, name: str, conv: Conv) -> Run | None:
        sgemm = self.blas.get(name)
        if sgemm is None:
            return None
        depth = conv.inputs * conv.taps_r * conv.taps_s
        pixels = conv.rows * conv.columns
        image = random(conv.batch * conv.groups * conv.inputs * conv.height * conv.width)
        weights = random(conv.groups * conv.outputs * depth)
        scratch = random(depth * pixels)
        output = random(conv.batch * conv.groups * conv.outputs * pixels)
        arrays = (image, weights, scratch, output)
        pointers = [array.ctypes.data for array in arrays]
        self.keep.append(arrays)
        run = self.library.im2col_run
        return lambda: run(ctypes.byref(conv), sgemm, *pointers)

    def torch_run(self, conv: Conv, *, packed: bool) -> Run | None:
        """PyTorch's call of oneDNN: channels last, or its own format with weights packed before."""
        if not find_spec("torch") or not _same_places(conv):
            return None
        torch: Any = import_module("torch")
        torch.set_num_threads(self.cores)
        x = torch.randn(conv.batch, conv.groups * conv.inputs, conv.height, conv.width)
        w = torch.randn(conv.groups * conv.outputs, conv.inputs, conv.taps_r, conv.taps_s)
        x, w = (t.to(memory_format=torch.channels_last) for t in (x, w))
        places = ([conv.top, conv.left], [conv.stride_h, conv.stride_w])
        dilation = [conv.dilation_h, conv.dilation_w]
        if packed:
            ops = torch.ops.mkldnn
            sizes = (*places, dilation, conv.groups)
            ready = ops._reorder_convolution_weight(w, *sizes, list(x.shape))
            self.keep.append((x, ready))
            call = ops._convolution_pointwise
            return _inference(torch, lambda: call(x, ready, None, *sizes, "none", [], ""))
        conv2d = torch.nn.functional.conv2d
        (padding, stride), self.keep = places, [*self.keep, (x, w)]
        return _inference(torch, lambda: conv2d(x, w, None, stride, padding, dilation, conv.groups))

    def ort_run(self, conv: Conv) -> Run | None:
        if not find_spec("onnxruntime"):
            return None
        ort: Any = import_module("onnxruntime")
        from onnx import TensorProto, helper, numpy_helper

        x = [conv.batch, conv.groups * conv.inputs, conv.height, conv.width]
        y = [conv.batch, conv.groups * conv.outputs, conv.rows, conv.columns]
        w = (conv.groups * conv.outputs, conv.inputs, conv.taps_r, conv.taps_s)
        node = helper.make_node(
            "Conv",
            ["x", "w"],
            ["y"],
            group=conv.groups,
            strides=[conv.stride_h, conv.stride_w],
            dilations=[conv.dilation_h, conv.dilation_w],
            pads=[conv.top, conv.left, conv.bottom, conv.right],
        )
        weights = numpy_helper.from_array(random(math.prod(w)).reshape(w), "w")
        graph = helper.make_graph(
            [node],
            "conv",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, x)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, y)],
            [weights],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self.cores, 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        session = ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        binding = session.io_binding()
        image, output = random(math.prod(x)).reshape(x), np.empty(y, np.float32)
        binding.bind_cpu_input("x", image)
        binding.bind_output("y", "cpu", 0, np.float32, y, output.ctypes.data)
        self.keep.append((session, binding, image, output))
        return lambda: session.run_with_iobinding(binding)


def _same_places(conv: Conv) -> bool:
    """Whether padding behind as before, which is all that PyTorch knows, gives the same output."""
    axes = (
        (conv.height, conv.top, conv.taps_r, conv.stride_h, conv.dilation_h, conv.rows),
        (conv.width, conv.left, conv.taps_s, conv.stride_w, conv.dilation_w, conv.columns),
    )
    return all(
        (size + 2 * before - (taps - 1) * dilation - 1) // stride + 1 == places
        for size, before, taps, stride, dilation, places in axes
    )


def _inference(torch: Any, run: Run) -> Run:
    def inner() -> object:
        with torch.inference_mode():
            return run()

    return inner


def random(size: int) -> Array:
    return np.random.default_rng(size).standard_normal(size, np.float32)


def load_peers(cores: int = 1) -> Peers:
    """Build benchmarks/cpu_peers.c with what is there."""
    prefix = Path(sys.prefix)
    onednn = (prefix / "include" / "dnnl.h").exists() and (prefix / "lib" / "libdnnl.so").exists()
    target = cpus.host().native()
    folder = Path(tempfile.mkdtemp())
    command = [find_compiler(), "-O2", "-shared", "-fPIC", *target.flags, str(HERE / "cpu_peers.c")]
    if onednn:
        command += ["-DWITH_ONEDNN", f"-I{prefix / 'include'}", f"-L{prefix / 'lib'}", "-ldnnl"]
        command += [f"-Wl,-rpath,{prefix / 'lib'}"]
    subprocess.run([*command, "-o", str(folder / "peers.so")], check=True)
    library = ctypes.CDLL(str(folder / "peers.so"))
    library.peak_flops.restype = ctypes.c_double
    library.peak_flops.argtypes = [ctypes.c_long]
    library.im2col_run.argtypes = [ctypes.c_void_p] * 6
    if onednn:
        library.onednn_create.restype = ctypes.c_void_p
        library.onednn_run.argtypes = [ctypes.c_void_p]
        library.onednn_implementation.argtypes = [ctypes.c_void_p]
        library.onednn_implementation.restype = ctypes.c_char_p
    peers = Peers(library, onednn, cores)
    mkl = sorted((prefix / "lib").glob("libmkl_rt.so*"))
    if mkl:
        loaded = ctypes.CDLL(str(mkl[0]))
        peers.blas["mkl"] = ctypes.cast(loaded.cblas_sgemm, ctypes.c_void_p)
        peers.keep.append(loaded)
    if not find_spec("scipy_openblas64"):
        return peers
    where = Path(import_module("scipy_openblas64").get_lib_dir()) / "libscipy_openblas64_.so"
    blas = ctypes.CDLL(str(where))
    blas.scipy_openblas_set_num_threads64_(cores)
    blas.scipy_openblas_get_corename64_.restype = ctypes.c_char_p
    peers.blas["openblas"] = ctypes.cast(blas.scipy_cblas_sgemm64_, ctypes.c_void_p)
    peers.openblas_core = blas.scipy_openblas_get_corename64_().decode()
    peers.keep.append(blas)
    return peers


def peak_gflops(peers: Peers) -> float:
    """The best of several: what this core can do when nothing is in its way."""
    best = 0.0
    for _ in range(9):
        began = time.process_time()
        flops = peers.library.peak_flops(3_000_000)
        best = max(best, flops / (time.process_time() - began) / 1e9)
    return best


def two_cores_peak(peers: Peers) -> float:
    """What both cores together reach of one core's peak, by wall time: the best of several."""
    rounds, best = 30_000_000, 0.0

    def seconds(threads: int) -> float:
        many = [
            threading.Thread(target=peers.library.peak_flops, args=(rounds,))
            for _ in range(threads)
        ]
        began = time.perf_counter()
        for thread in many:
            thread.start()
        for thread in many:
            thread.join()
        return time.perf_counter() - began

    alone = min(seconds(1) for _ in range(5))
    for _ in range(5):
        best = max(best, 2 * alone / seconds(2))
    return best


def our_run(kernel: Kernel) -> Run:
    """The program on packed arrays, called as oneDNN is: one foreign call."""
    shape = kernel.made.shape
    image = kernel.pack_image(random(math.prod(shape.image_shape)).reshape(kernel.image_shape))
    weights = random(math.prod(shape.weight_shape)).reshape(kernel.weight_shape or ())
    packed = kernel.pack_weights(weights)
    output = kernel.run(image, packed)
    library = ctypes.CDLL(str(kernel.library))
    run = getattr(library, f"{kernel.made.program.name}_run")
    run.argtypes = [ctypes.c_void_p] * 3
    pointers = [array.ctypes.data for array in (image, packed, output)]
    kept = (image, packed, output, library)
    return lambda: (run(*pointers), kept)


def interleave(
    runs: dict[str, Run], seconds: float, clock: Clock = time.process_time
) -> dict[str, float]:
    """Median seconds of a call of each.

    Samples are taken in turns, in another order each time: a program pays for the lines that the
    one before it left to be written back.
    """
    repeats: dict[str, int] = {}
    for name, run in runs.items():
        run()
        began = clock()
        run()
        repeats[name] = max(1, round(SAMPLE_SECONDS / max(clock() - began, 1e-6)))
    samples: dict[str, list[float]] = {name: [] for name in runs}
    order, turns = list(runs), chance.Random(0)
    began = clock()
    while clock() - began < seconds * len(runs) or len(samples[order[0]]) < 5:
        turns.shuffle(order)
        for name in order:
            run = runs[name]
            if clock is time.perf_counter:
                run()  # its threads wake up
            start = clock()
            for _ in range(repeats[name]):
                run()
            samples[name].append((clock() - start) / repeats[name])
    return {name: statistics.median(times) for name, times in samples.items()}


def submission_seconds(peers: Peers) -> float:
    """What oneDNN's SYCL build takes for a convolution of next to no work, less what ours does."""
    kernel = tw.compile(tw.conv2d("nothing", K=16, C=16, P=1, Q=1))
    found = peers.onednn_run(conv_of(kernel.made))
    if not found:
        return 0.0
    times = interleave({"ours": our_run(kernel), "onednn": found[0]}, 0.5)
    return max(times["onednn"] - times["ours"], 0.0)


def measure(network: str, work: tw.Workload, peers: Peers, seconds: float) -> dict[str, Any] | None:
    kernel = tw.compile(work, threads=peers.cores)
    shape = kernel.made.shape
    if shape.pool or not kernel.made.arrays.merged:
        return None
    conv = conv_of(kernel.made)
    runs: dict[str, Run] = {"ours": our_run(kernel)}
    found = peers.onednn_run(conv)
    if found:
        runs["onednn"] = found[0]
    others = {"ort": peers.ort_run(conv), "torch": peers.torch_run(conv, packed=False)}
    others["torch packed"] = peers.torch_run(conv, packed=True)
    if not shape.per_channel and peers.cores == 1:  # im2col's copy knows one core
        others |= {name: peers.blas_run(name, conv) for name in ("openblas", "mkl")}
    runs |= {name: run for name, run in others.items() if run}
    clock = time.process_time if peers.cores == 1 else time.perf_counter
    times = interleave(runs, seconds, clock)
    peers.keep.clear()
    blocking = kernel.made.choice.blocking
    return {
        "network": network,
        "layer": work.name,
        "kind": "depthwise" if shape.per_channel else "convolution",
        "mflop": 2 * shape.macs / 1e6,
        "taps": shape.taps,
        "real_share": shape.real_macs / shape.macs,
        "onednn_implementation": found[1] if found else None,
        "blocking": [blocking.vectors, blocking.width, blocking.chunk, blocking.rows],
        "gflops": {name: 2 * shape.macs / t / 1e9 for name, t in times.items()},
        "microseconds": {name: t * 1e6 for name, t in times.items()},
    }


def layers(networks: list[str]) -> list[tuple[str, tw.Workload]]:
    """The convolutions; of MobileNetV2 those that are depthwise."""
    found: list[tuple[str, tw.Workload]] = []
    for network in networks:
        for layer in tw.load(network).layers:
            work = layer.workload
            sizes = work.sizes
            depthwise = sizes.get("G", 1) > 1 and sizes.get("K") == 1
            if "P" in sizes and (depthwise or network != "mobilenetv2"):
                found.append((network, work))
    return found


def with_environment(cores: int) -> None:
    """Start anew with what libraries read when a process starts.

    oneDNN's wheel finds its OpenCL by it; threads of OpenMP do not spin between calls, as they
    would take the core from the next program.
    """
    lib = Path(sys.prefix) / "lib"
    driver, threads = lib / "libintelocl.so", str(cores)
    more = {"OMP_NUM_THREADS": threads, "OMP_WAIT_POLICY": "passive"}
    if driver.exists():
        more |= {"OCL_ICD_FILENAMES": str(driver), "LD_LIBRARY_PATH": str(lib)}
        more |= {"MKL_INTERFACE_LAYER": "ILP64", "MKL_THREADING_LAYER": "SEQUENTIAL"}
        more |= {"DPCPP_CPU_NUM_CUS": threads}
    if any(os.environ.get(name) != value for name, value in more.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | more)


def geomean(values: list[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values)) if values else math.nan


def build_seconds(todo: list[tuple[str, tw.Workload]]) -> dict[str, Any]:
    """Wall time to choose and write each program, and to compile it; a whole ResNet-50."""
    each: list[float] = []
    with tempfile.TemporaryDirectory() as scratch:
        kept, os.environ["TILEWRIGHT_CACHE"] = os.environ.get("TILEWRIGHT_CACHE"), scratch
        for _, work in todo:
            began = time.perf_counter()
            tw.compile(work)
            each.append(time.perf_counter() - began)
        whole = _resnet50()
        began = time.perf_counter()
        if whole:
            tw.compile_network(whole)
        network = time.perf_counter() - began
        del os.environ["TILEWRIGHT_CACHE"]
        if kept is not None:
            os.environ["TILEWRIGHT_CACHE"] = kept
    found = {"programs": len(each), "median": statistics.median(each), "most": max(each)}
    return found | ({"resnet50": network} if whole else {})


def _resnet50() -> Path | None:
    """The graph that comes with the `onnx` wheel."""
    import onnx

    file = Path(onnx.__file__).parent / "backend/test/data/light/light_resnet50.onnx"
    return file if file.exists() else None


def measure_all(
    todo: list[tuple[str, tw.Workload]], peers: Peers, seconds: float
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    measure(*todo[0], peers, 1.0)  # libraries that compile or start threads do so now
    for network, work in todo:
        row = measure(network, work, peers, seconds)
        if row:
            rows.append(row)
            speeds = {name: round(g, 1) for name, g in row["gflops"].items()}
            print(network, work.name, speeds, row["blocking"], file=sys.stderr, flush=True)
    return rows


def two_cores(options: argparse.Namespace) -> dict[str, Any]:
    """The same in a process whose libraries have two threads."""
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "two.json"
        command = [sys.executable, str(HERE / "cpu.py"), "--cores", "2", "--json", str(file)]
        command += ["--seconds", str(options.seconds), "--networks", options.networks]
        subprocess.run(command, check=True)
        return json.loads(file.read_text("utf-8"))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=0.5, help="of every program and layer")
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--core", type=int, default=0)
    parser.add_argument("--cores", type=int, default=0, help="only so many, and no page")
    options = parser.parse_args()
    cores = options.cores or 1
    with_environment(cores)
    todo = layers(options.networks.split(","))
    second = two_cores(options) if not options.cores and cpus.host().cores > 1 else None
    if hasattr(os, "sched_setaffinity"):
        some = {options.core} if cores == 1 else set(sorted(os.sched_getaffinity(0))[:cores])
        os.sched_setaffinity(0, some)
    peers = load_peers(cores)
    result: dict[str, Any] = {"cpu": cpus.host().name, "geometry": cpus.host().geometry}
    result |= {"openblas_core": peers.openblas_core, "peak_gflops": peak_gflops(peers)}
    if cores == 1:
        result["build"] = build_seconds(todo)
        result["onednn_submission_us"] = submission_seconds(peers) * 1e6
        result["two_cores"] = second
    else:
        result["peak_ratio"] = two_cores_peak(peers)
    result["rows"] = measure_all(todo, peers, options.seconds)
    result["load"] = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if options.json:
        options.json.write_text(json.dumps(result, indent=1), "utf-8")
    if not options.cores:
        (HERE / "CPU.md").write_text(report(result, options.seconds), "utf-8")


def report(result: dict[str, Any], seconds: float) -> str:
    rows, peak = result["rows"], result["peak_gflops"]
    lines = [
        "# How fast the C programs are",
        "",
        "Written by `make bench-cpu`. Medians of CPU time, one core, samples in random order, in",
        f"one process ({seconds:g} s each). Weights and activations are packed before, but for",
        "im2col, whose copy is timed. GF/s are nominal: taps on padding count though programs skip",
        "them, so they may pass the peak on small images. oneDNN is its C API, layouts of its",
        "choice; its SYCL build spends microseconds on each submission: tables leave them in, the",
        "summaries say both (the difference of two runs of a 1×1×16×16 convolution). torch is",
        "PyTorch's conv2d in channels last, which packs its weights on every call; *torch packed*",
        "is the same with weights packed before, as its compiler would. MKL takes its AVX2 kernels",
        "on AMD: it is no strong peer here.",
        "",
        f"CPU: {result['cpu']}, {result['geometry']}. "
        f"Peak, multiply-adds in registers: {peak:.0f} GF/s.",
        f"OpenBLAS runs its {result['openblas_core'] or '(not installed)'} kernels. "
        f"Load average of the machine while this ran: {result['load']:.1f}; others share its",
        "caches, and peers that hand work to threads of their own wait for them.",
        "",
        "*At most* is what a program would reach that ran at the peak on every layer without a",
        "multiply-add on padding: (peak / share of taps that are real) / the peer's GF/s. No",
        "program that sums these products one by one can do better against that peer on this CPU:",
        "where a goal lies beyond, it cannot be met here.",
    ]
    for kind in ("convolution", "depthwise"):
        some = [row for row in rows if row["kind"] == kind]
        if some:
            lines += ["", f"## {kind.capitalize()}", "", *_table(some, peak)]
            lines += ["", *_summary(some, kind, peak, result.get("onednn_submission_us", 0.0))]
    large = [row for row in rows if _is_large(row)]
    if large:
        shares = [row["gflops"]["ours"] * row["real_share"] / peak for row in large]
        lines += [
            "",
            f"Large 3×3 layers (1 GFLOP and more, {len(large)}) run at {min(shares):.1%} to "
            f"{max(shares):.1%} of the peak, {geomean(shares):.1%} in the geometric mean (asked",
            "95 %).",
        ]
    lines += _two_cores(result.get("two_cores"))
    return "\n".join([*lines, *_build(result.get("build"))]) + "\n"


def _is_large(row: dict[str, Any]) -> bool:
    return row["kind"] == "convolution" and row["mflop"] >= 1000 and row["taps"] == 9


def _two_cores(result: dict[str, Any] | None) -> list[str]:
    if not result:
        return []
    ratio = result["peak_ratio"]
    lines = [
        "",
        "## Two cores",
        "",
        "The same in a process of its own, every library with two threads, by wall time. The loop",
        f"of the peak on both cores at once did {ratio:.2f} times the work of one (asked "
        f"{TWO_CORES_PEAK:g}).",
    ]
    if ratio < TWO_CORES_PEAK:
        return [
            *lines,
            "So two cores were not there to be had: others used them. What was measured says how",
            "often threads were interrupted, not how fast programs are; it is left out.",
        ]
    lines += [
        "Threads of OpenMP and of onnxruntime do not spin while others run; every sample begins",
        "with a run that wakes them. Peers with a BLAS are left out: their copy knows one core.",
    ]
    rows, peak = result["rows"], ratio * result["peak_gflops"]
    for kind in ("convolution", "depthwise"):
        some = [row for row in rows if row["kind"] == kind]
        if some:
            lines += ["", f"### {kind.capitalize()}", "", *_table(some, peak)]
            lines += ["", *_summary(some, kind, peak, 0.0)]
    return lines


def _build(build: dict[str, Any] | None) -> list[str]:
    if not build:
        return []
    lines = [
        "",
        "## Writing and compiling",
        "",
        f"Choosing, writing and compiling one program takes {build['median']:.2f} s in the median "
        f"of {build['programs']},",
        f"{build['most']:.2f} s at most (asked 2 s), by wall time, nothing kept from before.",
    ]
    if "resnet50" in build:
        lines.append(f"All of ResNet-50, as one program: {build['resnet50']:.1f} s (asked 60 s).")
    return lines


def _table(rows: list[dict[str, Any]], peak: float) -> list[str]:
    names = [name for name in NAMES if any(name in row["gflops"] for row in rows)]
    head = "| layer | MFLOP | ours GF/s | of peak, real taps | " + " | ".join(names) + " | "
    head += " | ".join(f"ours/{name}" for name in names) + " |"
    lines = [head, "|" + "---|" * (head.count("|") - 1)]
    for row in rows:
        speed = row["gflops"]
        share = speed["ours"] * row["real_share"] / peak
        cells = [f"{row['network']} {row['layer']}", f"{row['mflop']:.1f}", f"{speed['ours']:.1f}"]
        cells.append(f"{share:.0%}")
        cells += [f"{speed[name]:.1f}" if name in speed else "–" for name in names]
        for name in names:
            cells.append(f"{speed['ours'] / speed[name]:.2f}" if name in speed else "–")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _summary(rows: list[dict[str, Any]], kind: str, peak: float, submission_us: float) -> list[str]:
    goals = {"onednn": "1.03, none below 0.97", "torch": "1.35", "torch packed": "1.35"}
    goals |= {"ort": "1.25", "openblas": "–", "mkl": "–"}
    if kind == "depthwise":
        goals = {"onednn": "1.5", "torch": "–", "torch packed": "–", "ort": "–"}
    lines = ["| ours against | layers | geometric mean | least | at most | goal |"]
    lines.append("|---|---|---|---|---|---|")
    for name, goal in goals.items():
        known = [row for row in rows if name in row["gflops"]]
        if not known:
            continue
        ratios = [row["gflops"]["ours"] / row["gflops"][name] for row in known]
        most = geomean([peak / row["real_share"] / row["gflops"][name] for row in known])
        cells = f"{len(known)} | {geomean(ratios):.3f} | {min(ratios):.3f} | {most:.2f}"
        lines.append(f"| {name} | {cells} | {goal} |")
        if name == "onednn" and submission_us:
            times = [row["microseconds"] for row in known]
            less = [(time[name] - submission_us) / time["ours"] for time in times]
            label = f"{name}, each run {submission_us:.1f} µs less"
            cells = f"{len(known)} | {geomean(less):.3f} | {min(less):.3f} | –"
            lines.append(f"| {label} | {cells} | {goal} |")
    return lines


if __name__ == "__main__":
    main()
