"""Senders that note each request and its answer, and send an event again if it was not accepted."""

import asyncio
import random
import threading
import time
import uuid
from collections.abc import Sequence

import httpx
import msgspec

from app.webhook import PATH
from tests.support.system import Tenant

PATIENCE = 12.0  # seconds that a sender waits for an answer, more than APPEND_TIMEOUT_SECONDS
TRIES = 4
TICKETS = 60  # with several events each; half of all events are for other tickets


class Sent(msgspec.Struct):
    """One request and its answer (None: no answer)."""

    correlation_id: str
    tenant_id: str
    ticket_id: str
    body: bytes
    signature: str
    kind: str  # good, forged, or broken: right signature, wrong schema
    began: float  # by the monotonic clock
    answered: float | None = None
    status: int | None = None


class Senders:
    """`count` senders: each sends the next event when the last was answered, at about `rate` a second in all."""

    def __init__(self, urls: Sequence[str], tenants: Sequence[Tenant], *, seed: int, count: int, rate: float) -> None:
        self._urls, self._tenants, self._seed, self._count, self._rate = urls, tenants, seed, count, rate
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self.sent: list[Sent] = []

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop the senders, and wait until each has its last answer."""
        self._stop.set()
        self._thread.join()

    def last_accepted(self) -> float:
        """Return when a webhook was last answered 202; 0 before the first."""
        return max((one.answered or 0 for one in self.sent[-2000:] if one.status == httpx.codes.ACCEPTED), default=0)

    async def _run(self) -> None:
        limits = httpx.Limits(max_connections=self._count * 2)
        async with httpx.AsyncClient(timeout=PATIENCE, limits=limits) as client, asyncio.TaskGroup() as group:
            for number in range(self._count):
                group.create_task(self._send_on(client, random.Random(f"{self._seed}/{number}")))

    async def _send_on(self, client: httpx.AsyncClient, rng: random.Random) -> None:
        pause = self._count / self._rate
        while not self._stop.is_set():
            began = time.monotonic()
            await self._deliver(client, rng)
            await asyncio.sleep(max(0.0, rng.uniform(0, 2) * pause - (time.monotonic() - began)))

    async def _deliver(self, client: httpx.AsyncClient, rng: random.Random) -> None:
        """Send one event, and send it again unless the answer says that the sender is at fault."""
        tenant = rng.choice(self._tenants)
        ticket_id = str(rng.randrange(TICKETS)) if rng.random() < 0.5 else uuid.uuid4().hex
        kind = rng.choices(("good", "forged", "broken"), (96, 2, 2))[0]
        resolution = rng.choice((uuid.uuid4().hex, uuid.uuid4().hex, "", " ")) if kind != "broken" else 7
        resolved = f"2026-{rng.randint(1, 12):02}-01T00:00:00Z"  # so few that many are equal
        body = tenant.body(ticket_id=ticket_id, resolution=resolution, resolved_date=resolved)
        signer = tenant if kind != "forged" else Tenant(tenant.id, "guessed")
        headers = signer.headers(body)
        for attempt in range(TRIES):
            one = Sent(
                uuid.uuid4().hex, tenant.id, ticket_id, body, headers["X-ServiceDesk-Signature"], kind, time.monotonic()
            )
            self.sent.append(one)
            await self._post(client, rng.choice(self._urls), one, headers)
            if one.status is not None and one.status < 500:
                return
            await asyncio.sleep(0.2 * 2**attempt * rng.random())

    async def _post(self, client: httpx.AsyncClient, url: str, one: Sent, headers: dict[str, str]) -> None:
        try:
            answer = await client.post(
                url + PATH, content=one.body, headers={**headers, "X-Correlation-ID": one.correlation_id}
            )
        except httpx.HTTPError:
            return
        one.status, one.answered = answer.status_code, time.monotonic()
