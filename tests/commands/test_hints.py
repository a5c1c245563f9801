"""What an error text names can be typed, and opened, where the person is."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from app import hints
from app import settings as environment
from app.commands import inspect
from tests import ROOT
from tests.conftest import clean_environment
from tests.support.system import run

pytestmark = pytest.mark.one_postgres


def test_a_command_is_called_as_it_was_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By `uv run`, by a path that is not on the PATH, or by its name."""
    monkeypatch.delenv(hints.UNDER_UV, raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(sys, "argv", ["/a place/ticket-inbox"])
    assert hints.command() == "'/a place/ticket-inbox'"
    monkeypatch.setattr(sys, "argv", ["/a place/app/__main__.py"])
    assert hints.command() == "ticket-inbox"
    monkeypatch.setenv(hints.UNDER_UV, "1")
    monkeypatch.chdir(ROOT / "docs")
    assert hints.command() == "uv run ticket-inbox"
    monkeypatch.chdir(tmp_path)
    assert hints.command() == f"uv run --project {shlex.quote(str(ROOT))} ticket-inbox"


def test_a_text_names_what_can_be_typed_and_opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(hints.UNDER_UV, "1")
    monkeypatch.chdir(ROOT)
    text = (
        "run `ticket-inbox migrate` as docs/upgrading.md says; ticket-inbox, app/docs/upgrading.md and docs/no.md stay"
    )
    typed = text.replace("`ticket-inbox m", "`uv run ticket-inbox m")
    assert hints.as_typed(text) == typed
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(hints.UNDER_UV)
    assert hints.as_typed(text) == text.replace("as docs", f"as {ROOT}/docs")


def test_error_texts_name_what_can_be_typed(tmp_path: Path) -> None:
    """Those of every command, also of one that ends before it begins."""
    env = clean_environment(**{hints.UNDER_UV: "1"})
    done = run(["tenant", "enable"], env, cwd=ROOT)
    assert "Try 'uv run ticket-inbox tenant enable --help' for help." in done.stderr
    (tmp_path / environment.KEY_FILE).touch()
    done = run(["tenant", "add", "t"], env | {"DEV_DIR": str(tmp_path)}, cwd=ROOT)
    assert (done.returncode, "of `uv run ticket-inbox dev` is in" in done.stderr) == (1, True), done.stderr


@pytest.mark.parametrize("place", [".ticket-inbox", "it's a place"])
def test_a_missing_key_is_the_one_of_dev_where_it_has_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str
) -> None:
    """The line to paste prints that key, and no second one is made."""
    monkeypatch.chdir(tmp_path)
    for name in ("SECRETS_KEY", "TICKET_INBOX_SECRETS_KEY", "TICKET_INBOX_DEV_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DEV_DIR", place)
    with pytest.raises(SystemExit, match='made by: python -c "'):
        environment.load_or_exit({"secrets_key"})
    Path(place).mkdir()
    Path(place, environment.KEY_FILE).write_text("the key")
    with pytest.raises(SystemExit) as raised:
        environment.load_or_exit({"secrets_key"})
    text = str(raised.value)
    assert "python -c" not in text
    [line] = [part for part in text.split("`") if part.startswith("export")]
    shell = ["sh", "-c", f'{line}; printf %s "$SECRETS_KEY"']
    assert subprocess.run(shell, capture_output=True, text=True, check=True).stdout == "the key"


def test_what_status_prints_can_be_typed_and_a_wrapped_reason_has_no_blank_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(hints.UNDER_UV, "1")
    monkeypatch.chdir(ROOT)
    reason = "the database has no schema yet, or not where the search_path leads. Run `ticket-inbox migrate`, then `ticket-inbox roles make`"
    lines = inspect._wrapped(f"  {reason}", 2)  # noqa: SLF001
    assert max(map(len, lines)) <= inspect.WIDTH
    assert all(re.match("  [^ ]", line) for line in lines), lines
    assert " ".join(line.strip() for line in lines) == reason.replace("`ticket-inbox", "`uv run ticket-inbox")
