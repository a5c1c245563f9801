"""Which tickets does a report mean by numbers that are not known here? ServiceDesk Plus is asked for them."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from app import settings as environment
from app.commands.reconcile import print_pause
from app.sdp import reconcile as runs
from app.sdp.errors import SdpError
from app.settings import uses

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

AT_A_TIME = 100  # display ids in a question to ServiceDesk Plus


def asker(
    connection: "AsyncConnection", tenant_id: str, print_line: Callable[[str], None]
) -> Callable[[Sequence[str], dict[str, list[str]]], Awaitable[str | None]]:
    """Return what asks a tenant's ServiceDesk Plus for tickets by display ids: an `Ask` of app.importing.display_ids.

    It prints first what it asks, and ends the process with one line where a setting is wrong that it needs.
    """

    async def ask(display_ids: Sequence[str], found: dict[str, list[str]]) -> str | None:
        settings = environment.load_or_exit(uses.RECONCILE)
        questions = -(-len(display_ids) // AT_A_TIME)
        print_line(
            f"asking ServiceDesk Plus which tickets have {len(display_ids):,} display ids that are not known here:"
            f" {questions:,} or more questions, at most {settings.sdp_requests_per_minute} a minute"
        )
        try:
            await runs.find_named(connection, settings, tenant_id, display_ids, found, print_pause)
        except (runs.NotReconciledError, SdpError) as error:
            return str(error)
        return None

    return ask
