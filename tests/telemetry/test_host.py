"""The resource names the machine, and leaves out what cannot be read."""

import socket

import pytest

from otel import export, host


def test_it_has_the_name_and_the_address_of_this_machine() -> None:
    known = host.attributes()
    assert known["host.name"] == socket.gethostname()
    assert known == host.attributes(), "each process of a machine has the same"


def test_a_machine_without_a_name_or_a_route_has_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable() -> str:
        raise OSError

    monkeypatch.setattr(socket, "gethostname", unreadable)
    monkeypatch.setattr(host, "ELSEWHERE", [(socket.AF_INET, "255.255.255.255")])  # may not be sent to
    assert host.attributes() == {}


def test_the_operator_has_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "host.name=node-7,ip=198.51.100.7")
    has = export._resource("ticket-inbox-server").attributes  # noqa: SLF001
    assert (has["host.name"], has["ip"]) == ("node-7", "198.51.100.7")
