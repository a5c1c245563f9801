"""How are probes answered that want no content? HEAD as GET without its body, and OPTIONS of the server itself."""

from copy import copy

from litestar import asgi
from litestar.exceptions import NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.types import HTTPScope, Receive, Send


def by_head_too(read: HTTPRouteHandler) -> HTTPRouteHandler:
    """Return a handler that answers HEAD as `read` answers GET: uvicorn sends the head alone."""
    handler = copy(read)  # /schema describes `read`, which stays as it is
    handler.http_methods = {"GET", "HEAD"}
    return handler


@asgi("/", copy_scope=False)
async def root(scope: HTTPScope, receive: Receive, send: Send) -> None:  # noqa: ARG001  (Litestar wants all three)
    """Answer 204 to OPTIONS, as HAProxy's checks send it unless told which path; there is nothing else here."""
    if scope["method"] != "OPTIONS":
        raise NotFoundException
    await send({"type": "http.response.start", "status": 204, "headers": [(b"allow", b"OPTIONS")]})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
