"""A document as one HTML page that needs nothing else: no network, no other file.

Owns: putting style, scripts and the view into one page, under a policy that allows these and no
others to run.

Non-goals: what is shown (`report/view.py`), how it is drawn (`report/assets`).
"""

import json
from base64 import b64encode
from hashlib import sha256
from html import escape
from importlib import resources
from string import Template
from typing import Any

from tilewright.errors import InputError, Problem, visible
from tilewright.report.vega import charts_script
from tilewright.report.view import view_of

Json = dict[str, Any]

SCRIPTS = ("nest.js", "draw.js", "layer.js", "report.js")
_BROKEN = (KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError)


def build_page(document: Json) -> str:
    """The page of a document that one of the commands wrote.

    Args:
        document: as `--json` prints it; texts in it come from anybody and are shown as text.

    Returns: HTML, in UTF-8, with all scripts and styles inside.

    Raises:
        InputError: no command wrote the document, or parts of it are missing.
        MissingToolError: the extra `report` is not installed.
    """
    view = safe_view(document)
    return fill_page(view["title"], view)


def safe_view(document: Json) -> Json:
    """The view of a document that may come from anybody.

    Raises: `InputError` if no command wrote it, or parts of it are missing.
    """
    try:
        return view_of(document)
    except _BROKEN as error:
        what = f"the document is not whole: {type(error).__name__} at {visible(str(error))[:80]}"
        raise InputError(Problem(what, "give what a command printed with --json")) from None


def fill_page(title: str, view: Json) -> str:
    """A page with a view in it."""
    charts, program = charts_script(), "\n".join(asset(name) for name in SCRIPTS)
    hashes = " ".join(f"'sha256-{_digest(script)}'" for script in (charts, program))
    policy = (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    return Template(asset("page.html")).substitute(
        policy=policy,
        title=escape(visible(title)),
        style=asset("report.css"),
        view=script_json(view),
        charts=charts,
        program=program,
    )


def script_json(value: object) -> str:
    r"""JSON that ends no script element, whatever texts it holds.

    >>> script_json({"name": "</script>"})
    '{"name": "\\u003c/script\\u003e"}'
    """
    text = json.dumps(value, allow_nan=False)
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def asset(name: str) -> str:
    """The text of a file that pages are made of."""
    return resources.files("tilewright.report").joinpath("assets", name).read_text("utf-8")


def _digest(script: str) -> str:
    return b64encode(sha256(script.encode()).digest()).decode()
