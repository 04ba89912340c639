"""Vega and Vega-Lite as one script, taken from the wheel of vl-convert.

Owns: the script, and its copy in the user's cache folder: bundling takes a second or two.

Non-goals: charts (`report/charts.py`).
"""

import contextlib
from hashlib import sha256
from importlib import import_module, resources
from pathlib import Path
from typing import Any

from tilewright.errors import MissingToolError, Problem
from tilewright.folders import cache_folder
from tilewright.report.files import write_atomically

SNIPPET = "window.vegaEmbed = vegaEmbed;"


def charts_script() -> str:
    """The script that defines `window.vegaEmbed`: Vega, Vega-Lite and Vega-Embed.

    Raises: `MissingToolError` if vl-convert, an extra, is not installed.
    """
    try:
        vl_convert: Any = import_module("vl_convert")
    except ImportError:
        what = "pages need vl-convert, whose wheel has the script that draws charts"
        raise MissingToolError(Problem(what, "pip install 'tilewright[report]'")) from None
    path = cache_folder("report") / f"vega-{vl_convert.__version__}.js"
    found = _read(path)
    if found is None:
        found = str(vl_convert.javascript_bundle(SNIPPET))
        with contextlib.suppress(OSError):  # a cache that cannot be written is none
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, f"{_digest(found)}\n{found}")
    found = f"/*!\n{_licence()}*/\n{found}"
    return found.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _read(path: Path) -> str | None:
    """The script of a file whose first line is the digest of the rest; `None` if it is not."""
    try:
        digest, _, script = path.read_bytes().decode("utf-8").partition("\n")
    except (OSError, UnicodeDecodeError):
        return None
    return script if digest == _digest(script) else None


def _digest(text: str) -> str:
    return sha256(f"{SNIPPET}\n{text}".encode()).hexdigest()


def _licence() -> str:
    """What must stand wherever the script does."""
    return resources.files("tilewright.report").joinpath("assets/vega-licence.txt").read_text()
