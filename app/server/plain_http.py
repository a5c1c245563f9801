"""How is HTTP/1.1 read from a peer that offers another protocol? As if it had not offered (RFC 9110, 7.8)."""

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class PlainHttp(HttpToolsProtocol):
    """uvicorn's HTTP, which declines each upgrade. Java's HttpClient always offers one."""

    def feed(self, data: bytes) -> None:
        """Parse what came. Raises httptools.HttpParserError where it is not HTTP.

        After an offer the parser takes no body, and what follows for another protocol (uvicorn's issue 2722).
        """
        rest = memoryview(data)
        while (offered_at := self._offered_at(rest)) is not None:
            self._parse_head_again()
            rest = rest[offered_at:]

    def _offered_at(self, data: memoryview) -> int | None:
        """Parse `data` up to an offer, and return how many bytes that were; None where it has none."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            return int(offer.args[0])
        return None

    def _parse_head_again(self) -> None:
        """Have a new parser read the request's head without its offer."""
        if self.scope["method"] == "CONNECT":
            raise httptools.HttpParserError("CONNECT asks for a tunnel")
        line = [self.scope["method"].encode(), b" ", self.url, b" HTTP/", self.scope["http_version"].encode(), b"\r\n"]
        fields = [b"%b: %b\r\n" % field for field in self.scope["headers"] if field[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.parser.feed_data(b"".join([*line, *fields, b"\r\n"]))

    def _should_upgrade(self) -> bool:
        return True  # uvicorn then leaves the request to us
