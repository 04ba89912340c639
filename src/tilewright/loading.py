"""From what a user names to a noun: zoo names, YAML files, ONNX files, one layer of any of them.

Owns: what an argument of the command line, or of `tilewright.load`, may be.

Non-goals: the formats themselves (`ir/files.py`, `frontend/`).
"""

from collections.abc import Mapping as Dict
from hashlib import sha256
from pathlib import Path

from tilewright import zoo
from tilewright.errors import InputError, Problem, did_you_mean
from tilewright.ir.files import parse_hardware, parse_network, read_source
from tilewright.ir.fix import Fix, parse_fix
from tilewright.ir.hardware import Hardware
from tilewright.ir.mapping import Mapping, parse_mapping
from tilewright.ir.workload import Layer, Network, Workload, gather_network


def load(
    name: str | Path,
    *,
    batch: int | None = None,
    shapes: Dict[str, tuple[int, ...]] | None = None,
) -> Network:
    """Load a network: a zoo name, a YAML file or an ONNX file, or one layer of it.

    Args:
        name: `resnet18`, `net.yaml`, `net.onnx`; with `:LAYER` behind it, that layer alone.
        batch: fixes the symbolic first dim of an ONNX graph's inputs.
        shapes: fixes whole inputs of an ONNX graph, by name.

    Raises: `InputError` if there is no such network, file or layer, or it is wrong.

    >>> load("resnet18").name
    'resnet18'

    Source: `spec/formats.md`, Workload.
    """
    whole, layer = _split(str(name))
    network = _load_whole(whole, batch, shapes)
    if layer is None:
        return network
    return gather_network(layer, [Layer(network.layer(layer))], source=network.source)


def load_layer(
    name: str | Path,
    *,
    batch: int | None = None,
    shapes: Dict[str, tuple[int, ...]] | None = None,
) -> Workload:
    """Load one layer. See `load`.

    Raises: `InputError` also if the network has several layers and none is named.

    >>> load_layer("vgg16:conv3_2").macs
    1849688064
    """
    network = load(name, batch=batch, shapes=shapes)
    if len(network.layers) != 1:
        names = [layer.workload.name for layer in network.layers]
        what = f"{network.name} has {len(names)} different layers, one is wanted"
        raise InputError(Problem(what, f"name one: {name}:{names[0]}"))
    return network.layers[0].workload


def load_hardware(name: str | Path) -> Hardware:
    """Load a chip: a zoo name or a YAML file.

    Raises: `InputError` if there is no such chip or file, or it is wrong.

    >>> load_hardware("eyeriss").levels[0].memory
    'DRAM'

    Source: `spec/formats.md`, Hardware.
    """
    text = str(name)
    if text in zoo.hardware_names():
        return zoo.load_hardware(text)
    return parse_hardware(read_source(_existing(text, zoo.hardware_names(), "chip")))


def load_mapping(text: str) -> Mapping:
    """Load a mapping: its notation, or a file with it.

    Raises: `InputError` if it is neither, or wrong.

    Source: `spec/formats.md`, Commands.
    """
    if "[" in text:
        return parse_mapping(text)
    path = Path(text)
    if not path.is_file():
        what = f"`{text}` is neither a mapping nor a file"
        raise InputError(Problem(what, "write DRAM[W I O]: K4 …, or name a file"))
    source = read_source(path)
    return parse_mapping(source.text, source.name)


def load_fix(text: str) -> Fix:
    """Load a partly given mapping: its notation, or a file with it.

    Raises: `InputError` if it is neither, or wrong.

    >>> print(load_fix("GLB: C Q | K@y"))
    GLB: C Q | K@y

    Source: `docs/fix.md`.
    """
    path = Path(text)
    if _is_file(path):
        source = read_source(path)
        return parse_fix(source.text, source.name)
    if ":" not in text and "\n" not in text:
        what = f"`{text}` is neither a partly given mapping nor a file"
        raise InputError(Problem(what, "write GLB: | K@x C@y …, or name a file"))
    return parse_fix(text)


def digest(name: str) -> str:
    """The SHA-256 of what an argument names: of a file, of a zoo entry, or of the text itself."""
    whole, _ = _split(name)
    if _is_file(Path(whole)):
        return sha256(Path(whole).read_bytes()).hexdigest()
    in_zoo = whole in (*zoo.network_names(), *zoo.hardware_names(), *zoo.space_names())
    return sha256((zoo.entry_text(whole) if in_zoo else name).encode()).hexdigest()


def _split(name: str) -> tuple[str, str | None]:
    """Split `NETWORK:LAYER`. A colon may also be part of a file's name."""
    if _is_file(Path(name)) or ":" not in name:
        return name, None
    whole, _, layer = name.partition(":")
    for cut in [i for i, char in enumerate(name) if char == ":"]:
        if _is_file(Path(name[:cut])):
            whole, layer = name[:cut], name[cut + 1 :]
    return whole, layer


def _load_whole(name: str, batch: int | None, shapes: Dict[str, tuple[int, ...]] | None) -> Network:
    if name in zoo.network_names():
        return zoo.load_network(name)
    path = _existing(name, zoo.network_names(), "network")
    if path.suffix.lower() == ".onnx":
        from tilewright.frontend.onnx import read_onnx  # it needs the onnx library

        return read_onnx(path, batch=batch, shapes=shapes)
    return parse_network(read_source(path))


def _existing(name: str, known: list[str], kind: str) -> Path:
    path = Path(name)
    if _is_file(path):
        return path
    if path.suffix:
        raise InputError(Problem(f"there is no file `{name}`", "check the path"))
    what = f"`{name}` is no file, and the zoo has no such {kind}"
    raise InputError(Problem(what, did_you_mean(name, known)))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long, or with a NUL
        return False
