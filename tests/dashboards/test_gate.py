from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from dashboards.gate import TokenGate


def dashboard(token: str) -> Starlette:
    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text("inside")

    routes = [Route("/{path:path}", lambda request: PlainTextResponse("inside")), WebSocketRoute("/stream", socket)]
    return Starlette(routes=routes, middleware=[Middleware(TokenGate, token=token)])


@pytest.fixture
def client() -> TestClient:
    return TestClient(dashboard("right"))


@pytest.mark.parametrize("path", ["/", "/stream", "/?token=wrong", "/?token=", "/static/app.js"])
def test_without_the_token_nothing_is_seen(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 401
    assert "inside" not in answer.text


def test_the_token_in_the_address_opens_and_is_kept_in_a_cookie_scripts_cannot_read(client: TestClient) -> None:
    answer = client.get("/?token=right")
    assert answer.text == "inside"
    assert "HttpOnly" in answer.headers["set-cookie"] and "SameSite=Strict" in answer.headers["set-cookie"]
    assert client.get("/static/app.js").text == "inside"


def test_a_wrong_cookie_does_not_open(client: TestClient) -> None:
    name = client.get("/?token=right").headers["set-cookie"].partition("=")[0]
    client.cookies.clear()
    assert client.get("/", headers={"cookie": f"{name}=wrong"}).status_code == 401
    assert client.get("/", headers={"cookie": f"{name}=right"}).text == "inside"


def test_two_dashboards_on_one_host_live_side_by_side(client: TestClient) -> None:
    """A browser sends each the cookies of both."""
    other = TestClient(dashboard("other"))
    assert client.get("/?token=right").text == other.get("/?token=other").text == "inside"
    both = {**client.cookies, **other.cookies}
    client.cookies = other.cookies = both
    assert client.get("/").text == other.get("/").text == "inside"


def test_a_socket_needs_the_token_too(client: TestClient) -> None:
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/stream"):
        pass
    client.get("/?token=right")
    with client.websocket_connect("/stream") as socket:
        assert socket.receive_text() == "inside"
