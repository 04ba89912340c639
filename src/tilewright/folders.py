"""Where tilewright keeps on this machine what can be made again.

Owns: `cache_folder`. What is in a part of it belongs to the module that asks for that part.
"""

import os
import sys
from pathlib import Path


def cache_folder(part: str) -> Path:
    """The folder of one part: in `$TILEWRIGHT_CACHE`, or in `tilewright` in the user's cache.

    >>> cache_folder("hwc").name
    'hwc'
    """
    given = os.environ.get("TILEWRIGHT_CACHE")
    if given:
        return Path(given) / part
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "tilewright" / part
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tilewright" / part
