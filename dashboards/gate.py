"""The token that a dashboard beyond loopback demands: without it every request, page or socket, is refused."""

from __future__ import annotations

import hashlib
import hmac
from http.cookies import SimpleCookie
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class TokenGate:
    """ASGI middleware. The token comes once in the URL (`?token=`) and then in a cookie that scripts cannot read."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self.app, self.token = app, token
        # A browser keeps cookies by host, whatever the port: of two dashboards each has one of its own.
        self.cookie = f"fipo_dashboard_{hashlib.sha256(token.encode()).hexdigest()[:12]}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on when it carries the token, else answer 401 (or close the socket before it opens)."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
        elif self._equal(_from_url(scope)):
            await self.app(scope, receive, self._with_cookie(send))
        elif self._equal(_from_cookie(scope, self.cookie)):
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store")]
            await send({"type": "http.response.start", "status": 401, "headers": headers})
            body = b"Open the address with the token that the dashboard printed when it started.\n"
            await send({"type": "http.response.body", "body": body})

    def _equal(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self.token.encode())

    def _with_cookie(self, send: Send) -> Send:
        cookie = f"{self.cookie}={self.token}; Path=/; HttpOnly; SameSite=Strict".encode()

        async def sender(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", []), (b"set-cookie", cookie), (b"referrer-policy", b"no-referrer")]
                message = {**message, "headers": headers}
            await send(message)

        return sender


def _from_url(scope: Scope) -> str:
    return parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token", [""])[0]


def _from_cookie(scope: Scope, cookie: str) -> str:
    for name, value in scope.get("headers", []):
        if name == b"cookie":
            cookies = SimpleCookie(value.decode("latin-1"))
            if cookie in cookies:
                return cookies[cookie].value
    return ""
