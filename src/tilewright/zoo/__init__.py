"""Networks and chips that come with the package, each with the source of its numbers.

Owns: finding and reading the files under `zoo/networks`, `zoo/hardware` and `zoo/spaces`.

Non-goals: anything that a user could not have written in such a file.
"""

from importlib import resources

from tilewright.errors import InputError, Problem, Source, did_you_mean
from tilewright.ir.files import parse_hardware, parse_network
from tilewright.ir.hardware import Hardware
from tilewright.ir.workload import Network


def network_names() -> list[str]:
    """The names of all networks, in alphabetical order."""
    return _names("networks")


def hardware_names() -> list[str]:
    """The names of all chips, in alphabetical order."""
    return _names("hardware")


def space_names() -> list[str]:
    """The names of all spaces of chips, in alphabetical order."""
    return _names("spaces")


def space_source(name: str) -> Source:
    """The file of a space. Raises `InputError`, with the nearest name, if there is none."""
    return _read("spaces", name)


def load_network(name: str) -> Network:
    """The network of that name. Raises `InputError`, with the nearest name, if there is none.

    >>> load_network("alexnet").macs > 600_000_000
    True
    """
    return parse_network(_read("networks", name))


def load_hardware(name: str) -> Hardware:
    """The chip of that name. Raises `InputError`, with the nearest name, if there is none.

    >>> load_hardware("eyeriss").mac_units
    168
    """
    return parse_hardware(_read("hardware", name))


def cpu() -> Hardware:
    """One core of a desktop CPU with its caches."""
    return load_hardware("cpu")


def diannao() -> Hardware:
    """DianNao, 16×16 MACs with three small buffers."""
    return load_hardware("diannao")


def eyeriss() -> Hardware:
    """Eyeriss, 14×12 row-stationary PEs."""
    return load_hardware("eyeriss")


def gemmini() -> Hardware:
    """Gemmini's default configuration, a 16×16 systolic array."""
    return load_hardware("gemmini")


def hwce() -> Hardware:
    """A convolution engine like HWCE, partial sums through memory."""
    return load_hardware("hwce")


def nvdla() -> Hardware:
    """An NVDLA-like chip, 64×16 MACs."""
    return load_hardware("nvdla")


def simba() -> Hardware:
    """One chiplet of Simba, 16 PEs of 8×8 MACs."""
    return load_hardware("simba")


def tpu() -> Hardware:
    """A chip like the first TPU, a 256×256 systolic array."""
    return load_hardware("tpu")


def entry_text(name: str) -> str:
    """The file of a network, chip or space of the zoo, to read or to start one's own from.

    Raises `InputError`, with the nearest name, if there is none of these.
    """
    folders = {
        "networks": network_names(),
        "hardware": hardware_names(),
        "spaces": space_names(),
    }
    for folder, names in folders.items():
        if name in names:
            return _read(folder, name).text
    fix = did_you_mean(name, [name for names in folders.values() for name in names])
    raise InputError(Problem(f"the zoo has no `{name}`", fix))


def _names(folder: str) -> list[str]:
    entries = resources.files(__name__).joinpath(folder).iterdir()
    return sorted(entry.name.removesuffix(".yaml") for entry in entries if ".yaml" in entry.name)


def _read(folder: str, name: str) -> Source:
    known = _names(folder)
    if name not in known:
        kind = {"networks": "network", "spaces": "space"}.get(folder, "chip")
        fix = did_you_mean(name, known)
        raise InputError(Problem(f"the zoo has no {kind} `{name}`", fix))
    text = resources.files(__name__).joinpath(folder, f"{name}.yaml").read_text("utf-8")
    return Source(f"zoo/{folder}/{name}.yaml", text)
