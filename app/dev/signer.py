"""As which tenant does `dev` send its webhooks?"""

import time
from collections.abc import Mapping
from typing import Any

import msgspec

from app.commands import send


class Signer(msgspec.Struct, frozen=True):
    """A tenant, its secret, and whether the server wants the time signed too."""

    tenant_id: str
    secret: str
    timed: bool

    def post(self, address: str, payload: Mapping[str, Any]) -> send.Answer:
        """Send a payload to this machine, past every proxy. Raises SendError unless it is accepted."""
        return send.post(address, self.secret, msgspec.json.encode(payload), self._moment(), directly=True)

    def headers(self, body: bytes) -> dict[str, str]:
        """Return the headers that sign a body now."""
        return send.signed(self.secret, body, self._moment())

    def _moment(self) -> int | None:
        return int(time.time()) if self.timed else None
