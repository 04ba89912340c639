"""The explorer's routes: networks, chips, jobs, pages.

Owns: what a client may ask for. Files that come from clients are kept under random names in a
folder of the server's own, are only ever parsed, and only by workers.

Non-goals: checks that all requests share (`serve/guard.py`), processes (`serve/jobs.py`).
"""

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from functools import cache, partial
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tilewright import zoo
from tilewright.mapper.result import Objective
from tilewright.report.page import SCRIPTS, asset, build_page
from tilewright.report.vega import charts_script
from tilewright.serve.chips import MOST_CHARACTERS, check_chip
from tilewright.serve.guard import Guard, TooLargeError, read_body, refuse
from tilewright.serve.jobs import Job, Jobs

Json = dict[str, Any]

MOST_REQUEST = 4 * MOST_CHARACTERS
MOST_UPLOAD, MOST_UPLOADS = 256 * 2**20, 8
"""Bytes of a network's file, and files that are kept; older ones go."""
LONGEST_SECONDS = 3600.0
_ENDINGS = (".onnx", ".yaml", ".yml")


@dataclass(slots=True)
class Explorer:
    """What a running server holds."""

    folder: Path
    jobs: Jobs
    uploads: dict[str, Path] = field(default_factory=dict[str, Path])


def make_app(guard: Guard) -> Starlette:
    """The application, behind its guard."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None]:
        with TemporaryDirectory(prefix="tilewright-") as folder:
            app.state.explorer = explorer = Explorer(Path(folder), Jobs())
            yield
            await explorer.jobs.close()

    routes = [
        Route("/", _page),
        Route("/assets/{name}", _asset),
        Route("/api/zoo", _zoo),
        Route("/api/chip/{name}", _chip),
        Route("/api/check", _check, methods=["POST"]),
        Route("/api/networks", _upload, methods=["POST"]),
        Route("/api/jobs", _start, methods=["POST"]),
        Route("/api/jobs/{key}", _job, methods=["GET"]),
        Route("/api/jobs/{key}", _stop, methods=["DELETE"]),
        Route("/api/jobs/{key}/{part}", _result),
    ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(BaseHTTPMiddleware, dispatch=guard)],
        exception_handlers={404: _not_there, 405: _not_there, Exception: _broken},
        lifespan=lifespan,
    )


def _explorer(request: Request) -> Explorer:
    return request.app.state.explorer


async def _not_there(_: Request, __: Exception) -> Response:
    return refuse(404, "there is no such thing here")


async def _broken(_: Request, error: Exception) -> Response:
    return refuse(500, f"a bug in tilewright: {type(error).__name__}", "report it")


# ------------------------------------------------------------------------------- pages and files


async def _page(_: Request) -> Response:
    return Response(_own("explorer.html"), media_type="text/html")


@cache
def _own(name: str) -> str:
    return resources.files("tilewright.serve").joinpath("assets", name).read_text("utf-8")


@cache
def _assets() -> dict[str, tuple[str, str]]:
    """What pages of the explorer load, by name: the text and its type."""
    program = "\n".join(asset(name) for name in SCRIPTS)
    script, style = "text/javascript", "text/css"
    return {
        "charts.js": (charts_script(), script),
        "report.js": (program, script),
        "report.css": (asset("report.css"), style),
        "explorer.js": (_own("explorer.js"), script),
        "explorer.css": (_own("explorer.css"), style),
    }


async def _asset(request: Request) -> Response:
    found = (await asyncio.to_thread(_assets)).get(request.path_params["name"])
    if found is None:
        return refuse(404, "there is no such file")
    return Response(found[0], media_type=found[1])


# -------------------------------------------------------------------------------- what there is


async def _zoo(_: Request) -> Response:
    return JSONResponse(
        {
            "networks": zoo.network_names(),
            "chips": zoo.hardware_names(),
            "objectives": [each.value for each in Objective],
        }
    )


async def _chip(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in zoo.hardware_names():
        return refuse(404, "the zoo has no such chip")
    return JSONResponse({"name": name, "text": zoo.entry_text(name)})


async def _read_json(request: Request) -> Json | Response:
    try:
        found = json.loads(await read_body(request, MOST_REQUEST))
    except TooLargeError:
        return refuse(413, f"a request has at most {MOST_REQUEST:,} bytes")
    except (ValueError, RecursionError):
        return refuse(400, "the request is no JSON")
    if not isinstance(found, dict):
        return refuse(400, "the request is no JSON object")
    return cast("Json", found)


async def _check(request: Request) -> Response:
    asked = await _read_json(request)
    if isinstance(asked, Response):
        return asked
    text = asked.get("text")
    if not isinstance(text, str) or len(text) > MOST_CHARACTERS:
        return refuse(400, f"a chip is a text of at most {MOST_CHARACTERS:,} characters")
    return JSONResponse(await asyncio.to_thread(check_chip, text))


async def _upload(request: Request) -> Response:
    """Keep a network's file under a name of our own; a worker says what is in it."""
    explorer = _explorer(request)
    ending = Path(request.query_params.get("name", "")).suffix.lower()
    if ending not in _ENDINGS:
        return refuse(400, "a network is an .onnx or a .yaml file")
    try:
        content = await read_body(request, MOST_UPLOAD)
    except TooLargeError:
        return refuse(413, f"a file has at most {MOST_UPLOAD:,} bytes", "send a smaller one")
    key = secrets.token_hex(8)
    path = explorer.folder / f"{key}{ending}"
    await asyncio.to_thread(path.write_bytes, content)
    explorer.uploads[key] = path
    for old in list(explorer.uploads)[:-MOST_UPLOADS]:
        explorer.uploads.pop(old).unlink(missing_ok=True)
    return JSONResponse({"upload": key})


# ----------------------------------------------------------------------------------------- jobs


async def _start(request: Request) -> Response:
    asked = await _read_json(request)
    if isinstance(asked, Response):
        return asked
    wanted = _job_request(asked, _explorer(request))
    if isinstance(wanted, Response):
        return wanted
    job = _explorer(request).jobs.start(wanted)
    if job is None:
        return refuse(429, "too many jobs wait already", "stop one")
    return JSONResponse(job.to_json(), 202)


def _job_request(asked: Json, explorer: Explorer) -> Json | Response:
    """What a worker is told: only values that were looked at, never a path of the client's."""
    network = asked.get("network")
    if asked.get("upload") is not None:
        path = explorer.uploads.get(str(asked["upload"]))
        if path is None:
            return refuse(400, "that file is not kept any more", "send it again")
        network = str(path)
    elif network not in zoo.network_names():
        return refuse(400, "the zoo has no such network")
    verb, layer = asked.get("verb"), asked.get("layer") or None
    chip, seconds = asked.get("chip", ""), asked.get("seconds")
    if verb not in ("list", "map", "curve"):
        return refuse(400, "a job is list, map or curve")
    if not isinstance(chip, str) or len(chip) > MOST_CHARACTERS:
        return refuse(400, f"a chip is a text of at most {MOST_CHARACTERS:,} characters")
    if layer is not None and not isinstance(layer, str):
        return refuse(400, "a layer is named by a text")
    if not isinstance(seconds, int | float) or not 0 < seconds <= LONGEST_SECONDS:
        seconds = LONGEST_SECONDS
    objectives = [each.value for each in Objective]
    objective = asked.get("objective") if asked.get("objective") in objectives else objectives[0]
    found: Json = {"verb": verb, "network": network, "layer": layer, "chip": chip}
    found |= {
        "seconds": seconds,
        "objective": objective,
        "imperfect": asked.get("imperfect") is True,
    }
    ends = {key: str(asked.get(key) or default)[:40] for key, default in _ENDS.items()}
    return found | ends


_ENDS = {"from": "4KiB", "to": "256KiB"}


def _find(request: Request) -> Job | None:
    return _explorer(request).jobs.find(request.path_params["key"])


async def _job(request: Request) -> Response:
    job = _find(request)
    return refuse(404, "there is no such job") if job is None else JSONResponse(job.to_json())


async def _stop(request: Request) -> Response:
    job = _find(request)
    if job is None:
        return refuse(404, "there is no such job")
    await _explorer(request).jobs.stop(job)
    return JSONResponse(job.to_json())


async def _result(request: Request) -> Response:
    """The view or the document of a job that is done, or its page to keep."""
    job, part = _find(request), request.path_params["part"]
    if job is None or job.result is None:
        return refuse(404, "there is no result")
    if part == "page" and "document" in job.result:
        page = await asyncio.to_thread(partial(build_page, job.result["document"]))
        headers = {"Content-Disposition": 'attachment; filename="report.html"'}
        return Response(page, media_type="text/html", headers=headers)
    if part == "layers" and "layers" in job.result:
        return JSONResponse(job.result)
    if part not in ("view", "document") or part not in job.result:
        return refuse(404, "there is no such result")
    text = await asyncio.to_thread(json.dumps, job.result[part])
    return Response(text, media_type="application/json")
