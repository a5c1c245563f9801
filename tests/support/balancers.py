"""Run docs/nginx.conf and docs/haproxy.cfg, with only the lines changed that are marked # CHANGE."""

import re
import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from tests import ROOT

_PLACES = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin"
NGINX = shutil.which("nginx", path=_PLACES)
HAPROXY = shutil.which("haproxy", path=_PLACES)


def run_nginx(directory: Path, behind: Sequence[int], port: int) -> subprocess.Popen[bytes]:
    """Run nginx on a port, before the servers on the ports `behind`: one or two."""
    certificate, key = _certificate(directory)
    text = _changed(
        "nginx.conf",
        behind,
        {
            "/run/nginx.pid": f"{directory}/pid", "/var/log/nginx/error.log": f"{directory}/error.log",
            "/etc/ssl/ticket-inbox.pem": str(certificate), "/etc/ssl/ticket-inbox.key": str(key),
            "listen 443": f"listen 127.0.0.1:{port}",
        },
    )  # fmt: skip
    # The test's user may not write where an nginx service keeps its temporary files.
    scratch = "".join(
        f"{name}_temp_path {directory}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = directory / "nginx.conf"
    config.write_text(text.replace("http {", f"http {{ {scratch}", 1))
    log = directory / "error.log"
    return _started(
        [NGINX or "", "-e", str(log), "-c", str(config), "-g", "daemon off; master_process off;"], port, log
    )


def run_haproxy(directory: Path, behind: Sequence[int], port: int) -> subprocess.Popen[bytes]:
    """Run HAProxy on a port, before the servers on the ports `behind`: one or two."""
    both = directory / "both.pem"
    both.write_text("".join(path.read_text() for path in _certificate(directory)))
    config = directory / "haproxy.cfg"
    changes = {"bind :443": f"bind 127.0.0.1:{port}", "/etc/ssl/ticket-inbox.pem": str(both)}
    config.write_text(_changed("haproxy.cfg", behind, changes))
    log = directory / "haproxy.log"
    return _started([HAPROXY or "", "-db", "-f", str(config)], port, log)


def _certificate(directory: Path) -> tuple[Path, Path]:
    certificate, key = directory / "cert.pem", directory / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate, key


def _changed(name: str, behind: Sequence[int], changes: dict[str, str]) -> str:
    """Return a page's configuration with `changes`; without its second server where there is one."""
    text = (ROOT / "docs" / name).read_text()
    ports = {f"127.0.0.1:{8000 + number}": f"127.0.0.1:{port}" for number, port in enumerate(behind)}
    for old, new in {**changes, **ports}.items():
        assert re.search(rf"{re.escape(old)}.*# CHANGE", text), f"{old} must be marked # CHANGE"
        text = text.replace(old, new)
    if len(behind) > 1:
        return text
    changed, count = re.subn(r"^.*127\.0\.0\.1:8001.*# CHANGE; delete.*\n", "", text, flags=re.MULTILINE)
    assert count == 1
    return changed


def _started(command: list[str], port: int, log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        process = subprocess.Popen(command, stderr=output)
    deadline = time.monotonic() + 10
    while not listens(port):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process


def listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0
