"""The best that a server could do: the same Litestar and uvicorn, with a handler that only reads the body."""

import sys

import uvicorn
from litestar import Litestar, Request, post

PATH = "/webhook/servicedesk/resolved-ticket"


@post(PATH, status_code=202)
async def noop(request: Request) -> dict[str, str]:  # type: ignore[type-arg]
    """Read the body and answer 202."""
    await request.body()
    return {"status": "accepted"}


if __name__ == "__main__":
    uvicorn.run(
        Litestar([noop], openapi_config=None, logging_config=None),
        port=int(sys.argv[1]),
        access_log=False,
        log_level="warning",
    )
