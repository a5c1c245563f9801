"""Ports: `::` is every address of both families, and what cannot be listened on says why and what to do."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from app.server import ports
from tests.support.free_ports import free_port
from tests.support.system import Server, Worker, run, running_server

pytestmark = pytest.mark.one_postgres

BOTH = ("127.0.0.1", "[::1]")
EACH_OPENS = pytest.mark.parametrize("opens", [ports.listen, ports.claim])
UNPRIVILEGED = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")


def refused(host: str, port: int, setting: str = "PORT") -> str:
    with pytest.raises(ports.ListenError) as error:
        ports.listen(host, port, setting).close()
    return str(error.value)


@contextlib.contextmanager
def taken(host: str = "127.0.0.1") -> Iterator[int]:
    with ports.listen(host, 0) as other:
        yield other.getsockname()[1]


@pytest.mark.parametrize("processes", [1, 2])
def test_a_server_on_every_address_answers_both_families(
    environment: dict[str, str], tmp_path: Path, processes: int
) -> None:
    with running_server({**environment, "HOST": "[::]"}, tmp_path / "log", processes) as server:
        [line] = server.lines("listening")
        for host in BOTH:
            assert httpx.get(f"http://{host}:{line['port']}/health/live").status_code == 200


def test_a_workers_metrics_on_every_address_answer_both_families(start_worker: Callable[..., Worker]) -> None:
    port = free_port()
    start_worker(HOST="::", WORKER_METRICS_PORT=str(port)).wait_for_line("worker_started", within=30)
    for host in BOTH:
        assert "ticket_inbox_promoted_rows_total" in httpx.get(f"http://{host}:{port}/metrics").text


def test_a_server_on_an_address_in_brackets(start_server: Callable[..., Server]) -> None:
    """It answers there; the address without brackets is the same."""
    server = start_server(HOST="[::1]")
    assert server.client.get("/health/live").status_code == 200


@EACH_OPENS
def test_every_address_of_ipv6_is_also_every_one_of_ipv4(opens: Callable[[str, int], socket.socket]) -> None:
    with opens("::", 0) as bound, contextlib.ExitStack() as stack:
        if opens is ports.claim:
            bound.listen()
        for host in ("127.0.0.1", "::1"):
            stack.enter_context(socket.create_connection((host, bound.getsockname()[1]), 5))


@EACH_OPENS
@pytest.mark.parametrize(
    ("host", "family"),
    [("127.0.0.1", 4), ("0.0.0.0", 4), ("::1", 6), ("::ffff:127.0.0.1", 6), ("localhost", 4)],  # noqa: S104
)
def test_an_address_or_name_is_listened_on(opens: Callable[[str, int], socket.socket], host: str, family: int) -> None:
    with opens(host, 0) as bound:
        assert bound.family == (socket.AF_INET if family == 4 else socket.AF_INET6)


def test_only_what_is_taken_is_to_be_stopped() -> None:
    with taken() as port:
        words = f"cannot listen on 127.0.0.1:{port} (Address already in use): stop what listens there, or set another "
        assert refused("127.0.0.1", port) == words + "PORT"
        assert refused("127.0.0.1", port, "WORKER_METRICS_PORT") == words + "WORKER_METRICS_PORT"
        assert "cannot listen on [::]:" in refused("::", port)
    for host, why in (
        ("192.0.2.1", "no interface of this machine has that address: set HOST to one that has, or to 0.0.0.0 or ::"),
        ("2001:db8::1", "no interface of this machine has that address: set HOST to one that has"),
        (
            "x86_64-conda-linux-gnu",
            "no address of that name is known: set HOST to an IP address, and TICKET_INBOX_HOST",
        ),
        ("fe80::1%nowhere", "no address of that name is known"),
        (f"{'x' * 70}.example", "(it is no host name): no address of that name is known"),
    ):
        assert why in refused(host, 8000)
        assert "stop what" not in refused(host, 8000)


@pytest.mark.parametrize("arguments", [["serve"], ["serve", "--processes", "2"], ["worker"], ["dev"]], ids=" ".join)
def test_every_process_says_why_it_cannot_listen(
    arguments: list[str], environment: dict[str, str], tmp_path: Path
) -> None:
    port = str(free_port())
    changes = {"HOST": "192.0.2.1", "PORT": port, "WORKER_METRICS_PORT": port, "DEV_DIR": str(tmp_path)}
    done = run(arguments, {**environment, **changes})
    cure = "no interface of this machine has that address: set HOST to one that has, or to 0.0.0.0 or ::"
    assert done.returncode == 1
    assert done.stderr == f"Error: cannot listen on 192.0.2.1:{port} (Cannot assign requested address): {cure}\n"


LISTEN = """
import os, socket, sys
from app.server import ports
if os.getuid() == 0 and len(sys.argv) > 3:
    "".encode("idna"), os.setuid(65534)
try:
    ports.listen(sys.argv[1], int(sys.argv[2]))
except ports.ListenError as error:
    print(error)
"""


def listen_in_process(*arguments: str, prefix: tuple[str, ...] = ()) -> str:
    command = [*prefix, sys.executable, "-c", LISTEN, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.mark.skipif(
    not UNPRIVILEGED.exists() or int(UNPRIVILEGED.read_text()) < 81, reason="any user may listen on port 80 here"
)
def test_a_port_below_1024_needs_a_right() -> None:
    said = listen_in_process("127.0.0.1", "80", "as nobody")
    assert "(Permission denied): a port below 1024 needs a right that this user lacks" in said
    assert "set PORT to 1024 or more" in said
    assert "stop what" not in said


@pytest.mark.skipif(not shutil.which("unshare"), reason="no program here makes a network of its own")
def test_a_machine_without_ipv6_says_so() -> None:
    """In a network of its own, whose loopback is down, no address of IPv6 is there."""
    apart = ("unshare", "--net") if os.getuid() == 0 else ("unshare", "--net", "--map-root-user")
    if subprocess.run([*apart, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this user may not make a network of its own")
    assert "this machine has no IPv6: set HOST to an address of IPv4" in listen_in_process("::1", "8000", prefix=apart)


def test_a_url_reaches_what_listens() -> None:
    """Also where a server listens on every address; a name, or what looks like an address and is none, stays."""
    assert [ports.url(host, 80) for host in ("0.0.0.0", "::", "::1", "10.1.2.3", "one", "1.2")] == [  # noqa: S104
        "http://127.0.0.1:80",
        "http://[::1]:80",
        "http://[::1]:80",
        "http://10.1.2.3:80",
        "http://one:80",
        "http://1.2:80",
    ]
