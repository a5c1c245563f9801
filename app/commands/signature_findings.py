"""What does `doctor` print of signatures that did not verify, and what is to be done about them?"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from app.commands.finding import Finding, note, ok, wrong
from app.commands.inspect import duration

if TYPE_CHECKING:
    from db.signature_counts import Lately

MOST_OTHERS = 20  # tenants that get a line of their own beside the one that is checked
MEANWHILE = 900.0  # seconds between a signature that verified and a later one that failed; the alert looks as far back
HEADER = "X-ServiceDesk-Signature"
WHAT = {
    "absent": f"without the header {HEADER}",
    "malformed": "with one that is neither hexadecimal nor base64 of a digest",
    "untimely": "without a time, or with one too far from now",
    "wrong": "made with another secret, or over other bytes",
}
CURES = {
    "absent": f"have the sender send {HEADER}, through every proxy on its way",
    "malformed": "send the HMAC-SHA256's hexadecimal or base64, and nothing else, as the header",
    "untimely": "set the sender's clock, and have it sign X-ServiceDesk-Timestamp, as SIGNED_TIMESTAMP_SECONDS demands",
    "wrong": "set the tenant's newest secret at the sender, and sign exactly the bytes that are sent",
}


def of(lately: "Sequence[Lately]", tenant_id: str) -> Iterator[Finding]:
    """Yield what is found of the tenant's signatures, then a note for every other tenant that had failures."""
    own = next((one for one in lately if one.tenant_id == tenant_id), None)
    yield from _of_own(own) if own else [note("no signature of it has been counted yet, right or wrong")]
    named = [one for one in lately if one.tenant_id not in {tenant_id, None}]
    for one in named[:MOST_OTHERS]:
        yield note(f"tenant {one.tenant_id!r}: {_failures(one)}; {_verified(one)}. {_cure(one)}")
    if more := len(named) - MOST_OTHERS:
        yield from [note(f"{more} more tenants had signatures that failed within a day")] * (more > 0)
    if unknown := next((one for one in lately if one.tenant_id is None), None):
        yield note(
            f"{_failures(unknown)} named a tenant that is unknown or disabled: compare `tenant_id` at the senders with "
            "`ticket-inbox tenant list`, to the letter"
        )


def _of_own(own: "Lately") -> Iterator[Finding]:
    """Yield what is found of the checked tenant. It has to be mended where nothing verified meanwhile."""
    if not own.failures:
        yield ok(f"no signature of it failed within a day; {_verified(own)}")
    elif _verifies_meanwhile(own):
        yield note(f"{_failures(own)}, but {_verified(own)}. If they go on: {_cure(own)}")
    else:
        yield wrong(f"{_failures(own)}; {_verified(own)}. {_cure(own)}")
    if own.grace and own.verified is not None and own.verified_by_previous == own.verified:
        yield note(
            "the last one that verified was made with the secret before the newest, which verifies for "
            f"{duration(own.grace)} more: set the newest at the sender before"
        )


def _verifies_meanwhile(own: "Lately") -> bool:
    """Return whether one verified after the last failure, or shortly before it by a secret that is still right.

    Anybody can send a wrong one every second: then hardly ever is the last one right.
    """
    if own.verified is None or own.failed is None:
        return False
    is_changed = own.changed is not None and own.changed < own.verified
    is_by_ended = own.grace is None and own.verified_by_previous == own.verified
    return own.verified - own.failed <= (0 if is_changed or is_by_ended else MEANWHILE)


def _failures(one: "Lately") -> str:
    parts = {name: getattr(one, name) for name in WHAT if getattr(one, name)}
    kinds = ", ".join(f"{count} {WHAT[name]}" for name, count in parts.items())
    ago = f", the last {duration(one.failed)} ago" if one.failed is not None else ""
    return f"{one.failures} {'signature' if one.failures == 1 else 'signatures'} failed within a day ({kinds}{ago})"


def _verified(one: "Lately") -> str:
    return "none ever verified" if one.verified is None else f"one last verified {duration(one.verified)} ago"


def _cure(one: "Lately") -> str:
    """Return what to do about the commonest fault."""
    commonest = max(CURES, key=lambda name: int(getattr(one, name)))
    is_changed = one.changed is not None and (one.verified is None or one.changed < one.verified)
    if commonest == "wrong" and is_changed and one.changed is not None:
        changed = f"The tenant was added or changed {duration(one.changed)} ago, and none verified since"
        return f"{changed}: {CURES['wrong']}"
    return CURES[commonest][0].upper() + CURES[commonest][1:]
