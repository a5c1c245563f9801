"""Which kinds of webhook does the server take? One entry for each: its path, its payload, its name in the inbox."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from app import event
from app.event import Event, flat, native
from app.event.rules import Rules
from app.webhook import PATH
from db import inbox


class Form(msgspec.Struct, frozen=True):
    """One form of a payload, as /schema describes it."""

    payload: type[msgspec.Struct]
    summary: str
    example: Mapping[str, Any]


class Kind(msgspec.Struct, frozen=True):
    """One kind of webhook. `source` names it in the inbox; `check` parses its body once the tenant is verified."""

    path: str
    source: str
    summary: str
    check: Callable[[bytes, Rules], Event]
    forms: Sequence[Form]


RESOLVED = Kind(
    path=PATH,
    source=inbox.WEBHOOK,
    summary="Take in one resolved ticket",
    check=event.check,
    forms=(
        Form(flat.ResolvedTicketPayload, "The members alone", flat.EXAMPLE),
        Form(native.NativePayload, "A request of ServiceDesk Plus' API V3, as it is", native.EXAMPLE),
    ),
)
KINDS = (RESOLVED,)
