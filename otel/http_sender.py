"""How is one OTLP request sent over HTTP, and what does the answer mean?"""

import gzip
import math
import time
import zlib
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from importlib.metadata import version
from typing import Any
from urllib.parse import urljoin

import requests
from google.protobuf import json_format
from google.protobuf.message import DecodeError

from otel import outcome
from otel.otlp_target import Target, without_credentials
from otel.outcome import Outcome

LATER = {429, 502, 503, 504}  # all others are refusals, by the specification
HINTS = {
    401: "check OTEL_EXPORTER_OTLP_HEADERS",
    403: "check OTEL_EXPORTER_OTLP_HEADERS",
    404: "{none}check OTEL_EXPORTER_OTLP_ENDPOINT",
    413: "set {batch}the receiver's limit higher",
}
BODY_BYTES = 65_536  # of an answer that are read; what is longer says nothing to us
HOW: dict[str, Any] = {"allow_redirects": False, "stream": True}  # a post that is redirected would become a get
COMPRESS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress}


class HttpSender:
    """Posts requests to one target."""

    def __init__(self, signal: str, target: Target, answer_type: Any) -> None:  # noqa: ANN401  (a type of protobuf's)
        self._signal, self._target, self._answer_type = signal, target, answer_type
        self._verify = target.certificate or True  # for each request: over a session's own, REQUESTS_CA_BUNDLE wins
        self._session = requests.Session()
        self._session.headers["User-Agent"] = f"ticket-inbox/{version('ticket-inbox')}"
        self._session.headers["Content-Type"] = "application/x-protobuf"
        self._session.headers.update(target.headers)
        if target.compression != "none":
            self._session.headers["Content-Encoding"] = target.compression
        # A password of ~/.netrc would stand in the place of OTEL_EXPORTER_OTLP_HEADERS, were there none here.
        user = requests.utils.get_auth_from_url(target.url)
        self._session.auth = user if any(user) else lambda prepared: prepared
        pair = target.client_certificate, target.client_key
        self._session.cert = pair if all(pair) else target.client_certificate or None

    def send(self, request: Any, within: float) -> Outcome:  # noqa: ANN401  (a message of protobuf)
        """Send one request and return what became of it, after at most `within` seconds without a byte."""
        body = COMPRESS.get(self._target.compression, bytes)(request.SerializeToString())
        ends = time.monotonic() + within
        try:
            with self._post(body, within) as response:
                return self._outcome(response, ends)
        except requests.Timeout:
            return Outcome("later", f"{self._target.address} did not answer in {within:.3g} s")
        except requests.ConnectionError as error:
            why = self._target.one_line(_root(error))
            return Outcome("later", f"no connection to {self._target.address}: {why}")

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def _post(self, body: bytes, within: float) -> requests.Response:
        """Post at once again if the connection broke: the receiver may have closed it while nothing was sent."""
        for last in (False, True):
            try:
                return self._session.post(self._target.url, data=body, timeout=within, verify=self._verify, **HOW)
            except requests.Timeout:
                raise
            except requests.ConnectionError:
                if last:
                    raise
        raise AssertionError

    def _outcome(self, response: requests.Response, ends: float) -> Outcome:
        status = response.status_code
        if status // 100 == 2:  # noqa: PLR2004
            return self._success(response, ends)
        error = f"{self._target.address} answered HTTP {status} {_phrase(status)}".rstrip()
        if status in LATER:
            return Outcome("later", error, wait=_seconds(response.headers.get("Retry-After")))
        if status // 100 == 3:  # noqa: PLR2004
            leads = urljoin(self._target.address, response.headers.get("Location", ""))
            to = self._target.one_line(without_credentials(leads))
            return Outcome("refused", f"{error}, to {to}: set OTEL_EXPORTER_OTLP_ENDPOINT to where it leads")
        return Outcome("refused", f"{error}: {outcome.hint(HINTS[status], self._signal)}" if status in HINTS else error)

    def _success(self, response: requests.Response, ends: float) -> Outcome:
        if response.headers.get("Content-Type", "").startswith("text/html"):
            said = f"{self._target.address} answered with a web page, as Jaeger's own pages do: no receiver of OTLP"
            return Outcome("refused", f"{said}; check OTEL_EXPORTER_OTLP_ENDPOINT")
        answer = self._answer(_beginning(response, ends))
        message = self._target.one_line(answer.partial_success.error_message)
        return outcome.of_answer(self._signal, answer, self._target.address, message)

    def _answer(self, body: bytes) -> Any:  # noqa: ANN401
        """Return the message in a body, which is empty where there is none, or one that cannot be read."""
        try:
            if body.lstrip()[:1] == b"{":
                return json_format.Parse(body, self._answer_type(), ignore_unknown_fields=True)
            return self._answer_type.FromString(body)
        except (DecodeError, json_format.ParseError, ValueError, RecursionError):
            return self._answer_type()


def _beginning(response: requests.Response, ends: float) -> bytes:
    """Return an answer's body, or nothing if it is long, late or breaks off: the request was taken all the same."""
    body = b""
    try:
        while part := response.raw.read1(BODY_BYTES, decode_content=True):
            body += part
            if len(body) > BODY_BYTES or time.monotonic() > ends:
                return b""
    except Exception:  # noqa: BLE001  (urllib3's, http.client's and the socket's)
        return b""
    return body


def _seconds(retry_after: str | None) -> float | None:
    """Return how many seconds a `Retry-After` asks for, or None if it is absent or cannot be read."""
    try:
        seconds = float(retry_after or "")
    except ValueError:
        try:
            seconds = parsedate_to_datetime(retry_after or "").timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return seconds if math.isfinite(seconds) else None


def _root(error: BaseException) -> str:
    """Return the words of the system or of TLS at the bottom of a connection's error, without the library's around."""
    seen: BaseException = error
    for _ in range(10):
        below = [getattr(seen, "reason", None), *seen.args, seen.__cause__, seen.__context__]
        found = next((one for one in below if isinstance(one, BaseException) and one is not seen), None)
        if found is None:
            break
        seen = found
    return getattr(seen, "strerror", None) or str(seen) or type(seen).__name__


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
