"""How does the search say no? By the problems of app/webhook/problems.py, but where their words speak of webhooks."""

from typing import Any

from app.webhook import problems
from app.webhook.problems import Refusal
from db import failure_kinds as kinds
from db import failures, similar_answer

KINDS = {
    401: ("read-token", "The read token is not valid"),
    422: ("invalid-question", "The question breaks its schema"),
    429: ("question-rate", "The tenant asks more than it may"),
    503: ("search-unavailable", "The question cannot be answered now"),
}
BUILDING_AGAIN = 60  # seconds: an index of many tickets takes minutes
SOON = 1  # seconds
CHALLENGE = {"WWW-Authenticate": "Bearer"}
LIMIT = 2.0  # seconds that the search of one question may take in Postgres


class SearchRefusal(Refusal):
    """A question answered with `status` and `detail`, as Refusal."""

    def __init__(self, status: int, detail: str, **more: Any) -> None:  # noqa: ANN401  (Refusal's)
        super().__init__(status, detail, **more)
        self.kind, self.title = KINDS.get(status, (self.kind, self.title))


def kind_of(status: int) -> tuple[str, str]:
    """Return the slug and the title of the problem that is answered with `status`."""
    return KINDS.get(status) or problems.KINDS[status]


def not_admitted() -> Refusal:
    """Return the refusal of a token that is not in force: the same bytes whatever is wrong with it."""
    detail = "The header Authorization must be “Bearer” and a read token that is in force (ticket-inbox tenant token)."
    return SearchRefusal(401, detail, headers=CHALLENGE)


def of_failure(error: Exception) -> Refusal:
    """Return the refusal for a question that Postgres did not answer; `error` is for the log."""
    cause = failures.explain(error)
    if similar_answer.is_not_built(error):
        detail = "The tenant's tickets are being indexed for the search; ask again in a minute."
        return SearchRefusal(503, detail, retry_after=BUILDING_AGAIN, cause=cause)
    if failures.kind(error) in (kinds.CANCELLED, kinds.SILENT):
        detail = f"The search took longer than {LIMIT:g} seconds; ask again, or with fewer words."
        return SearchRefusal(503, detail, cause=cause)
    if failures.kind(error) in (kinds.RIGHT, kinds.NO_SCHEMA, kinds.SCHEMA_RIGHT):
        detail = "The search is not set up yet: `ticket-inbox migrate`, then `ticket-inbox roles make`, does that."
        return SearchRefusal(503, detail, retry_after=BUILDING_AGAIN, cause=cause)
    return SearchRefusal(503, "Postgres cannot answer the question now; ask again.", cause=cause)
