"""Who may ask: pages of this server in a browser on this machine, and nobody else.

A page from elsewhere that the same browser has open can send requests to 127.0.0.1, also under a
name of its own that leads there. So the host must be ours, and what changes anything must come from
a page of ours, by its origin.
"""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = "; ".join([
    "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self'",
    "connect-src 'self'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'",
])  # fmt: skip
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
READING = ("GET", "HEAD")


class Guard:
    """Refuses what does not come from this server's own page; sets the headers of all answers."""

    def __init__(self, app: ASGIApp, port: int) -> None:
        self.app = app
        self.hosts = (f"127.0.0.1:{port}", f"localhost:{port}")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # its start and end; there are no sockets
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if problem := self.refused(scope["method"], headers):
            await JSONResponse({"error": problem}, 403, HEADERS)(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await self.app(scope, receive, with_headers)

    def refused(self, method: str, headers: Headers) -> str:
        """Why a request is not answered; empty for one that is."""
        host, origin = headers.get("host", ""), headers.get("origin")
        if host not in self.hosts:
            return "this page is served to this machine only"
        own = origin == f"http://{host}"
        if origin is not None and not own:
            return "this request comes from the page of another site"
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return "this request comes from the page of another site"
        if method not in READING and not own:
            return "this request does not say which page it comes from"
        return ""
