"""How does one request reach a ServiceDesk Plus? Whatever answers, little is read of it, and for a limited time."""

import asyncio
from typing import Any

import httpx

from app.sdp import answers
from app.sdp.answers import Answer
from app.sdp.errors import AwayError, SdpError, TooLongError, TransientError
from app.sdp.status import Say
from otel import redaction

MOST_BYTES = 32 * 1024 * 1024  # of an answer, whatever it declares; its reading takes twice that memory
# Compressed, 5 KB became 6 GB, and no time limit ended that: a library decompresses what it has in one go. On a
# connection that is used again, what follows an answer of too short a length would be read as the answer to the next.
HEADERS = {"Accept-Encoding": "identity", "Connection": "close"}


class Transport:
    """Sends requests, each on a connection of its own; an answer may take `seconds`, and `say` shows what others wrote.

    Raises SdpError if the environment names a proxy or certificates that cannot be used.
    """

    def __init__(self, seconds: float, say: Say) -> None:
        self._seconds, self._say = seconds, say
        # No redirect is followed: our key would go with it.
        try:
            self._client = httpx.AsyncClient(
                timeout=seconds, follow_redirects=False, headers=HEADERS, event_hooks={"response": [self._look]}
            )
        except (ImportError, ValueError, OSError) as error:
            words = redaction.one_line(str(error))
            raise SdpError(f"HTTPS_PROXY, SSL_CERT_FILE or their like cannot be used: {words}") from None

    async def close(self) -> None:
        """Close what it holds."""
        await self._client.aclose()

    async def send(self, method: str, url: str, **given: Any) -> Answer:  # noqa: ANN401  (httpx' own arguments)
        """Return the answer. Raises TransientError if none comes, or only a part of one; else SdpError."""
        host = httpx.URL(url).host
        try:
            # httpx' time-out is for each piece: an answer that trickles would never end.
            async with asyncio.timeout(self._seconds), self._client.stream(method, url, **given) as response:
                body = await _body(response)
        except (TimeoutError, httpx.TimeoutException):
            raise TransientError(f"{host} gives no answer in time") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            words = self._say(str(error)) or type(error).__name__
            raise AwayError(f"{host} cannot be reached, or hung up: {words}") from None
        return Answer(response.status_code, response.headers, body)

    async def _look(self, response: httpx.Response) -> None:
        """Raise SdpError if an answer is compressed, or leads elsewhere: httpx would read the address, however odd."""
        host = response.request.url.host
        answers.refuse_redirect(host, response.status_code, response.headers, self._say)
        found = response.headers.get("content-encoding", "")
        if {one.strip().lower() for one in found.split(",")} - {"", "identity"}:
            raise SdpError(
                f"{host} answered in the encoding '{self._say(found)}', and was asked for none: let it, or the proxy "
                "before it, heed `Accept-Encoding: identity`"
            )


async def _body(response: httpx.Response) -> bytes:
    """Return an answer's body as it came. Raises TooLongError if it is longer than MOST_BYTES, whatever it declared."""
    body = bytearray()
    async for part in response.aiter_raw():
        body += part
        if len(body) > MOST_BYTES:
            raise TooLongError(f"ServiceDesk Plus answered with more than {MOST_BYTES} bytes")
    return bytes(body)
