"""Is a tenant's every ticket found by its words? What `ticket-inbox doctor` says of search."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from app.commands.finding import Finding, note, ok, wrong
from app.commands.inspect import duration

if TYPE_CHECKING:
    from db.search_state import SearchState

LATE = 300.0  # seconds after which a ticket should have been found by its words, whatever promotion had to do
NAMED = 3  # roles


def of(state: "SearchState | None", lacking: Sequence[str], tenant_id: str) -> Iterator[Finding]:
    """Yield what is wrong with search, or that it finds the tenant's tickets; and roles that may not use it yet."""
    if state is None:
        yield note("whether search finds all tickets was not checked: this role may not read that")
    elif tenant_id in state.building:
        yield note("search is being built for this tenant by a worker: until then it answers 503, unless it is small")
    elif state.oldest_due_seconds > LATE:
        lag = duration(state.oldest_due_seconds)
        yield wrong(f"search does not find tickets that were written {lag} ago: see what the workers log of `index`")
    else:
        yield ok(f"search finds the tenant's tickets{_due(state)}")
    if lacking:
        more = f" and {len(lacking) - NAMED} more" if len(lacking) > NAMED else ""
        names = f"{', '.join(lacking[:NAMED])}{more}"
        yield wrong(
            f"roles without their right to search, which answers 503 to them: {names}; run `ticket-inbox roles make`"
        )


def _due(state: "SearchState") -> str:
    if not state.due:
        return ""
    return f"; {state.due:,} of all tenants wait, the oldest for {duration(state.oldest_due_seconds)}"
