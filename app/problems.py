"""How do we say no? Every refusal is an RFC 9457 problem, made here and nowhere else."""

from collections.abc import Sequence
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException

from app import exchange, signature
from app.event import BrokenRule

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER = "5"  # seconds: longer than a Postgres restart takes, shorter than anybody waits

KINDS = {
    400: ("malformed-body", "The body is not a JSON object"),
    401: ("signature", "The signature does not verify"),
    404: ("not-found", "There is nothing here"),
    405: ("method-not-allowed", "The method is not allowed here"),
    413: ("body-too-large", "The body is too large"),
    415: ("content-type", "The content type is not application/json"),
    422: ("invalid-event", "The event breaks its schema"),
    500: ("unforeseen", "Something went wrong on our side"),
    503: ("unavailable", "The event cannot be taken now"),
}


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a request was refused (RFC 9457); `errors` names the members of an event that break their rules."""

    type: str
    title: str
    status: int
    detail: str
    correlation_id: str
    errors: Sequence[BrokenRule] = ()


class Refusal(Exception):  # noqa: N818  (an answer, not an error)
    """A request answered with `status` and `detail`; `cause` is for the log alone."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        errors: Sequence[BrokenRule] = (),
        cause: BaseException | str | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = errors
        self.cause = cause or detail

    @property
    def headers(self) -> dict[str, str]:
        """The headers that go with the status."""
        if self.status == 401:  # noqa: PLR2004
            return {"WWW-Authenticate": f'HMAC-SHA256 header="{signature.HEADER}"'}
        return {"Retry-After": RETRY_AFTER} if self.status == 503 else {}  # noqa: PLR2004


def on_refusal(request: Request[Any, Any, Any], refusal: Refusal) -> Response[Problem]:
    """Answer one of our own refusals."""
    return _answer(request, refusal, refusal.headers)


def on_http_exception(request: Request[Any, Any, Any], error: HTTPException) -> Response[Problem]:
    """Answer what Litestar refuses by itself: no such path, no such method, a request it cannot read."""
    status = error.status_code if error.status_code in KINDS else 400
    return _answer(request, Refusal(status, error.detail), error.headers or {})


def on_unforeseen(request: Request[Any, Any, Any], error: Exception) -> Response[Problem]:
    """Answer 500; what happened is in the log, under the correlation id."""
    detail = "Send it again later; the log has the reason under this correlation id."
    return _answer(request, Refusal(500, detail, cause=error), {})


def _answer(request: Request[Any, Any, Any], refusal: Refusal, headers: dict[str, str]) -> Response[Problem]:
    current = exchange.of(request.scope)
    current.error = refusal.cause
    slug, title = KINDS[refusal.status]
    current.kind = slug
    problem = Problem(
        type=f"urn:ticket-inbox:problem:{slug}",
        title=title,
        status=refusal.status,
        detail=refusal.detail,
        correlation_id=current.correlation_id,
        errors=refusal.errors,
    )
    return Response(problem, status_code=refusal.status, media_type=MEDIA_TYPE, headers=headers)
