"""The verb `serve`: the explorer, a local web application."""

import secrets
import socket
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tilewright.cli.output import print_problem
from tilewright.errors import InputError, MissingToolError, Problem

if TYPE_CHECKING:
    from starlette.applications import Starlette

EXAMPLE = "Example: tilewright serve   or   tilewright serve --host 0.0.0.0 --token SECRET"
SHORTEST_TOKEN = 8
_MOST_CONNECTIONS = 512
_LONGEST_HEADERS = 32_768


def serve_command(
    host: Annotated[
        str, typer.Option(help="The address to listen on; any but loopback needs a token.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65_535, help="The port; 0 for one that is free.")
    ] = 8321,
    token: Annotated[
        str | None, typer.Option(help="What clients must know; made up if one is needed.")
    ] = None,
) -> int:
    """Open the explorer: choose a network and a chip, edit it, see mappings and costs change."""
    for module in ("starlette", "uvicorn", "vl_convert"):
        if find_spec(module) is None:
            what = f"the explorer needs {module}, which is not installed"
            raise MissingToolError(Problem(what, "pip install 'tilewright[serve]'"))
    if token is not None and (len(token) < SHORTEST_TOKEN or not token.isascii()):
        what = f"--token has {len(token)} characters; it needs at least {SHORTEST_TOKEN}, all ASCII"
        raise InputError(Problem(what, "leave it out, and one is made up"))
    from tilewright.serve.app import make_app
    from tilewright.serve.guard import Guard, is_loopback

    if token is None and not is_loopback(host):
        token = secrets.token_urlsafe(18)
    _run(make_app(Guard(host, token)), host, port, token)
    return 0


def _run(app: "Starlette", host: str, port: int, token: str | None) -> None:
    uvicorn: Any = import_module("uvicorn")
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=_MOST_CONNECTIONS,
        h11_max_incomplete_event_size=_LONGEST_HEADERS,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=3,
    )
    try:
        # It listens before the address is printed: who reads that can connect at once.
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family, backlog=_MOST_CONNECTIONS)
    except OSError:
        what = (
            f"{host}:{port} cannot be listened on: it is taken, or not an address of this machine"
        )
        raise InputError(Problem(what, "write --port 0 for a free one")) from None
    shown = f"[{host}]" if ":" in host else host
    query = f"/?token={token}" if token else "/"
    print_problem(f"open http://{shown}:{listening.getsockname()[1]}{query}   (Ctrl-C ends it)")
    uvicorn.Server(config).run(sockets=[listening])
