"""A secret comes by an option, a file or the environment; no list of processes shows the last two."""

import socket
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO

import click
import pytest
from click.testing import CliRunner

from app.commands import secret_option
from app.webhook import signature
from db.tenants import Secrets
from tests.conftest import clean_environment
from tests.support.commands_in_process import Environment, invoke, tenant_command
from tests.support.system import Database

pytestmark = pytest.mark.one_postgres

HELD = "größe-of-a-secret-long-enough"
SEND = ("send", "--url", "http://127.0.0.1:1", "--tenant", "acme")


@pytest.mark.parametrize("content", [HELD, f"{HELD}\n", f"{HELD}\r\n"])
def test_a_file_holds_the_secret_and_its_line_break_does_not_count(
    environment: Environment, database: Database, tmp_path: Path, content: str
) -> None:
    (tmp_path / "secret").write_bytes(content.encode())
    assert tenant_command(environment, "add", "acme", "--secret-file", f"{tmp_path}/secret") == ""
    kept = Secrets(environment["SECRETS_KEY"]).decrypt(database.value("SELECT secret FROM tenant_configs"))
    assert kept.decode() == HELD


def test_the_line_break_of_a_variable_does_not_count(environment: Environment) -> None:
    @click.command()
    @secret_option.options("The secret.", "TICKET_INBOX_SECRET")
    def command(secret: str | None, secret_file: BinaryIO | None) -> None:
        click.echo(repr(secret_option.given(secret, secret_file)))

    for text, found in ((HELD, HELD), (f"{HELD}\n", HELD), (f"{HELD}\r\n", HELD), (f" {HELD} ", f" {HELD} ")):
        done = CliRunner(env={**environment, "TICKET_INBOX_SECRET": text}).invoke(command)
        assert done.stdout == f"{found!r}\n"


@pytest.mark.parametrize(
    ("words", "environ", "arguments"),
    [
        ("give the secret: as TICKET_INBOX_SECRET", {}, SEND),
        ("not both", {}, (*SEND, "--secret", HELD, "--secret-file", "/dev/null")),
        ("must be text in UTF-8", {}, (*SEND, "--secret", "\udcff")),
        ("must be text in UTF-8", {}, (*SEND, "--secret-file", sys.executable)),
        ("must be text in UTF-8", {}, ("tenant", "add", "acme", "--secret", "\udcff")),
        ("No such file", {}, (*SEND, "--secret-file", "/nowhere")),
    ],
)
def test_what_is_no_secret_is_wrong_use(words: str, environ: dict[str, str], arguments: tuple[str, ...]) -> None:
    done = invoke(clean_environment(**environ), *arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert words in done.stderr.splitlines()[-1]


def test_a_file_comes_before_the_environment_and_no_list_of_processes_shows_either(tmp_path: Path) -> None:
    """The request is signed with the file's secret; while it waits, the test reads the process's command line."""
    (tmp_path / "secret").write_text(HELD)
    (tmp_path / "payload").write_text('{"tenant_id": "acme"}')
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        arguments = ["send", "--url", url, "--tenant", "acme", "--file", "payload", "--secret-file", "secret"]
        env = {**clean_environment(PYTHONPATH=str(Path.cwd())), "TICKET_INBOX_SECRET": "another-secret"}
        with subprocess.Popen(
            [sys.executable, "-m", "app", *arguments], cwd=tmp_path, env=env,
            stderr=subprocess.DEVNULL,
        ) as sending:  # fmt: skip
            connection, _ = listening.accept()
            with connection:
                connection.settimeout(10)
                request = b""
                while b'"acme"}' not in request:
                    request += connection.recv(65536)
                shown = Path(f"/proc/{sending.pid}/cmdline").read_text()
    assert signature.sign(HELD.encode(), b'{"tenant_id": "acme"}') in request.decode()
    assert "--secret-file" in shown
    assert "of-a-secret" not in shown
    assert "another-secret" not in shown
