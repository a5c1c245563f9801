"""Where exports go and how, as OTEL_EXPORTER_OTLP_* say: addresses, headers, compression, certificates, by both."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import certifi
import pytest

from otel import export
from otel.otlp_target import target
from otel.variables import WrongTelemetryError
from tests.support.certificates import Authority
from tests.support.exporting import exporting
from tests.support.otlp_receiver import Receiver, receiving_grpc, receiving_http

pytestmark = pytest.mark.one_postgres

Receiving = Callable[..., AbstractContextManager[Receiver]]
BOTH = pytest.mark.parametrize("receiving", [receiving_http, receiving_grpc], ids=["http", "grpc"])
ANY = "http://collector:4318"


@pytest.mark.parametrize(
    ("receiving", "compression"),
    [
        (receiving_http, "deflate"),
        *((each, one) for each in (receiving_http, receiving_grpc) for one in ("gzip", "none", "")),
    ],
)
def test_headers_and_compression(receiving: Receiving, compression: str) -> None:
    """A signal's own variable wins; an empty one is unset."""
    with (
        receiving() as receiver,
        exporting(
            receiver,
            OTEL_EXPORTER_OTLP_COMPRESSION=compression,
            OTEL_EXPORTER_OTLP_HEADERS="x-of=all",
            OTEL_EXPORTER_OTLP_TRACES_HEADERS="X-Of=traces,authorization=Bearer%20a%3D",
            OTEL_EXPORTER_OTLP_TRACES_TIMEOUT="",
        ) as process,
    ):
        process.record(1)
        receiver.wait_for_spans(1)
    [headers] = receiver.headers
    assert (headers["x-of"], headers["authorization"]) == ("traces", "Bearer a=")
    assert headers["user-agent"].startswith("ticket-inbox/")
    if receiver.protocol != "grpc":  # gRPC hides its own from the code that it calls
        assert headers.get("content-encoding", "none") == (compression or "none")


def test_a_password_of_netrc_is_not_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does it push out the token of OTEL_EXPORTER_OTLP_HEADERS, or the user in the address."""
    (tmp_path / "netrc").write_text("default login me password hunter2\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for user, token, sent in [("", "Bearer%20a", "Bearer a"), ("me:a%40b@", "", "Basic bWU6YUBi"), ("", "", None)]:
        with receiving_http() as receiver:
            headers = f"authorization={token}" if token else ""
            receiver.endpoint = receiver.endpoint.replace("://", f"://{user}")
            with exporting(receiver, OTEL_EXPORTER_OTLP_HEADERS=headers) as process:
                process.record(1)
                receiver.wait_for_spans(1)
            assert receiver.headers[0].get("authorization") == sent


@BOTH
def test_tls_with_a_certificate_on_both_sides(
    receiving: Receiving, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the authority, or without a certificate of our own, nothing arrives, and a line says so."""
    monkeypatch.setattr(export, "STOP_SECONDS", 0.5)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", certifi.where())  # the setting for OTLP wins
    authority = Authority(tmp_path / "theirs")
    client = authority.sign("client", "127.0.0.1")
    trusting = {"OTEL_EXPORTER_OTLP_CERTIFICATE": str(authority.path)}
    pair = {
        "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": str(client),
        "OTEL_EXPORTER_OTLP_CLIENT_KEY": str(client.with_suffix(".key")),
    }
    with receiving(tls=authority) as receiver:
        for settings in (trusting, pair):
            with exporting(receiver, **settings) as process:
                process.record(1)
                receiver.wait_until(lambda: process.lines)
            assert not receiver.spans()
        with exporting(receiver, **trusting, **pair) as process:
            process.record(1)
            receiver.wait_for_spans(1)


@pytest.mark.parametrize(
    ("signal", "environ", "url"),
    [
        ("TRACES", {"OTEL_EXPORTER_OTLP_ENDPOINT": f"{ANY}/"}, f"{ANY}/v1/traces"),
        ("LOGS", {"OTEL_EXPORTER_OTLP_ENDPOINT": f"{ANY}/otlp"}, f"{ANY}/otlp/v1/logs"),
        ("TRACES", {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{ANY}/t"}, f"{ANY}/t"),
        ("METRICS", {"OTEL_EXPORTER_OTLP_ENDPOINT": ANY, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, ANY),
    ],
)
def test_the_address_of_a_signal(signal: str, environ: dict[str, str], url: str) -> None:
    assert target(signal, environ).url == url


def test_an_address_is_shown_without_its_password() -> None:
    found = target("TRACES", {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://me:hunter2@collector/otlp?key=hunter2"})
    assert found.address == "https://collector/otlp"
    assert found.one_line("no me:hunter2 here, hunter2 !\n") == "no … here, … !"


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
@pytest.mark.parametrize(
    ("name", "value"), [("CERTIFICATE", "/nowhere.pem"), ("CLIENT_KEY", "/nowhere.pem"), ("COMPRESSION", "zstd")]
)
def test_what_cannot_be_used_is_named_at_the_start(protocol: str, name: str, value: str) -> None:
    """Not with the first span."""
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": ANY, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol}
    with pytest.raises(WrongTelemetryError, match=f"OTEL_EXPORTER_OTLP_{name}"):
        export.configure("ticket-inbox-server", {**environ, f"OTEL_EXPORTER_OTLP_{name}": value})
