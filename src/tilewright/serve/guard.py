"""Who may ask, and how much: token, host, origin, sizes.

Owns: the checks that every request passes before a route sees it.
"""

import hmac
import ipaddress
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

COOKIE = "tilewright_token"
Next = Callable[[Request], Awaitable[Response]]
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def refuse(status: int, what: str, fix: str = "") -> JSONResponse:
    """An answer that says what is wrong, in the form of all problems."""
    problem = {"what": what, "fix": fix, "line": None, "column": None}
    return JSONResponse({"problems": [problem]}, status, headers=HEADERS)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class Guard:
    """The checks of a server: `token` is `None` where only this machine reaches it."""

    host: str
    token: str | None

    async def __call__(self, request: Request, follow: Next) -> Response:
        """Let a request through, or refuse it."""
        refused = self._refuse(request)
        if refused is not None:
            return refused
        given = request.query_params.get("token")
        if self.token is not None and given is not None and request.url.path == "/":
            answer: Response = RedirectResponse("/", 303)
            answer.set_cookie(COOKIE, self.token, httponly=True, samesite="strict")
        else:
            answer = await follow(request)
        for name, value in HEADERS.items():
            answer.headers.setdefault(name, value)
        return answer

    def _refuse(self, request: Request) -> Response | None:
        host = request.headers.get("host", "")
        name = urlsplit(f"//{host}").hostname or ""
        if is_loopback(self.host) and not is_loopback(name):
            # A name of somebody else's that points here: pages of theirs must not reach us.
            return refuse(421, "this server only answers to localhost", "open http://localhost")
        if self.token is not None and not self._knows(request):
            return refuse(401, "a token is needed", "open the address that `serve` printed")
        origin = request.headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return refuse(403, "a page from elsewhere may not ask this server")
        return None

    def _knows(self, request: Request) -> bool:
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        given = [request.cookies.get(COOKIE), request.query_params.get("token")]
        given += [bearer] if scheme.lower() == "bearer" else []
        wanted = (self.token or "").encode()
        return any(
            hmac.compare_digest(each.encode("utf-8", "replace"), wanted) for each in given if each
        )


class TooLargeError(Exception):
    """A request has more bytes than it may."""


async def read_body(request: Request, most: int) -> bytes:
    """The body of a request. Raises `TooLargeError` as soon as it is too large."""
    said = request.headers.get("content-length", "")
    if said.isdecimal() and int(said) > most:
        raise TooLargeError
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise TooLargeError
        parts.append(part)
    return b"".join(parts)
