"""Settings: defaults that work, one line for each wrong value, and a page that is true."""

import re
import subprocess
import sys

import msgspec
import pytest
from psycopg.conninfo import conninfo_to_dict

from app import settings
from app.settings import Settings, WrongSettingError
from tests import ROOT
from tests.conftest import clean_environment
from tests.support import preloaded
from tests.support.commands_in_process import run_here

pytestmark = pytest.mark.one_postgres

DOCS = ROOT / "docs"


def test_the_defaults_work_on_one_machine() -> None:
    found = settings.load({})
    assert found == Settings()
    assert (found.host, found.port, found.max_body_bytes, found.max_description_chars) == (
        "127.0.0.1",
        8000,
        1024**2,
        10_000,
    )


def test_an_empty_variable_counts_as_unset() -> None:
    assert settings.load({"PORT": "", "SECRETS_KEY": "", "DATABASE_URL": ""}) == Settings()


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("PORT", "0", 0),
        ("LOG_LEVEL", "DEBUG", "debug"),
        ("LOG_FORMAT", "Console", "console"),
        ("APPEND_TIMEOUT_SECONDS", "0.5", 0.5),
        ("RETENTION_DAYS", "0", 0),
        ("TENANT_RATE", "0.5", 0.5),
        (
            "DATABASE_URL",
            "postgres://a:B@one,two/db?target_session_attrs=read-write",
            "postgres://a:B@one,two/db?target_session_attrs=read-write",
        ),
    ],
)
def test_values_are_read(name: str, value: str, found: object) -> None:
    assert getattr(settings.load({name: value}), name.lower()) == found


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://",
        "postgresql:///db?host=/var/run/postgresql",
        "postgresql://postgres@/db?host=/tmp/x",
        "postgresql://%2Fvar%2Flib%2Fpostgresql/db",
        "postgresql://u:a:b$&+,;=!%40%25b@[::1]:5432/my-db",
        "postgres://a:B@one,two:2/db?target_session_attrs=read-write&options=-c%20x%3Dy",
    ],
)
def test_urls_in_libpqs_form_are_accepted(url: str) -> None:
    assert settings.load({"DATABASE_URL": url}).database_url == url
    assert conninfo_to_dict(url) is not None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "http"),
        ("PORT", "65536"),
        ("PORT", "-1"),
        ("PORT", "80.5"),
        ("MAX_BODY_BYTES", "1MiB"),
        ("MAX_BODY_BYTES", "0"),
        ("MAX_DESCRIPTION_CHARS", "50001"),
        ("RESOLVED_STATUSES", " , "),
        ("APPEND_TIMEOUT_SECONDS", "nan"),
        ("APPEND_TIMEOUT_SECONDS", "0"),
        ("WORKER_CONCURRENCY", "1"),
        ("RETENTION_DAYS", "-1"),
        ("LOG_LEVEL", "loud"),
        ("LOG_FORMAT", "xml"),
        ("DATABASE_URL", "mysql://root:hunter2@localhost/x"),
        ("DATABASE_URL", "localhost"),
        # Passwords that are not escaped: the drivers would take part of one for a host or port, and show it in errors.
        ("DATABASE_URL", "postgresql://u:hunter2%zz@h/d"),
        ("DATABASE_URL", "postgresql://u:%00hunter2@h/d"),
        ("DATABASE_URL", "postgresql://u:hunter2/x@h/d"),
        ("DATABASE_URL", "postgresql://u:hunter2#x@h/d"),
        ("DATABASE_URL", "postgresql://u:hunter2?x=y@h/d"),
        ("DATABASE_URL", "postgresql://u:12@hunter2@h/d"),
        ("DATABASE_URL", "postgresql://u:hunter2[@h/d"),
        ("DATABASE_URL", "postgresql://u:hunter 2@h/d"),
        ("DATABASE_URL", "postgresql://u@h:hunter2/d"),
        ("DATABASE_URL", "postgresql://u@h/d?hunter2"),
        ("DATABASE_URL", "postgresql://u@h/d?password=x&hunter2=x"),
        ("SIGNED_TIMESTAMP_SECONDS", "86401"),
        ("SECRETS_KEY", "hunter2"),
        ("SECRETS_KEY", "A" * 43 + "=,hunter2"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_it(name: str, value: str) -> None:
    with pytest.raises(WrongSettingError) as wrong:
        settings.load({name: value})
    assert re.fullmatch(rf"{name} is wrong: it must be .+", str(wrong.value))
    assert "hunter2" not in str(wrong.value)


@pytest.mark.parametrize(
    "command",
    [["app", "serve"], ["app", "worker"], ["app", "dev"], ["app", "tenant", "list"], ["jobs"],
     ["procrastinate", "--app=jobs.app", "healthchecks"], ["alembic", "check"], ["litestar", "run"],
     ["uvicorn", "--factory", "app.main:create_app"]],
    ids=" ".join,
)  # fmt: skip
def test_a_wrong_value_stops_every_start(command: list[str]) -> None:
    done = preloaded.run(command, clean_environment(DATABASE_URL="mysql://localhost/x"))
    assert done.returncode != 0
    assert "DATABASE_URL is wrong: it must be a URL like postgresql://" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_repr_shows_a_value() -> None:
    assert "hunter2" not in repr(settings.load({"DATABASE_URL": "postgresql://u:hunter2@h/d"}))


def test_the_page_lists_every_setting_as_it_is() -> None:
    """docs/settings.md has a row for each setting, with its default and its allowed values."""
    page = (DOCS / "settings.md").read_text()
    rows = {cells[1].strip("` "): cells for line in page.splitlines() if len(cells := line.split("|")) == 6}
    fields = msgspec.structs.fields(Settings)
    assert {name for name in rows if name.isupper()} == {field.name.upper() for field in fields}
    for field in fields:
        meta = field.type.__metadata__[0]
        _, _, default, what, rule, _ = (cell.strip() for cell in rows[field.name.upper()])
        assert default == (f"`{field.default}`" if field.default != "" else "none")
        assert what == meta.description
        assert rule in (meta.extra["rule"], "see below")


def test_only_one_module_reads_the_environment() -> None:
    root = DOCS.parent
    readers = {
        str(path.relative_to(root))
        for room in ("app", "db", "jobs", "otel", "migrations")
        for path in (root / room).rglob("*.py")
        if "os.environ" in path.read_text()
    }
    # Processes that `dev` starts inherit the whole environment; OpenTelemetry and prometheus_client read their own.
    telemetry = {f"otel/{name}.py" for name in ("__init__", "export", "metrics", "variables")}
    # How the command was called, and from where Python imports, is no setting of ours.
    calls = {"app/hints.py", "app/own_path.py"}
    shown = {"app/commands/show_settings.py", "app/settings/described.py"}  # `settings` says where each value came from
    assert readers == {"app/settings/__init__.py", "app/dev/children.py"} | telemetry | calls | shown


def test_help_is_instant_and_complete() -> None:
    """No command's help imports the server or SQLAlchemy, which take a second."""
    code = "import sys; sys.argv = ['x', '--help']\ntry:\n from app.cli import main; main()\nfinally:\n print(sorted({m.partition('.')[0] for m in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    help_text, modules = done.stdout.rsplit("\n", 2)[:2]
    assert not {"litestar", "sqlalchemy", "asyncpg", "asyncio", "httpx", "alembic", "cryptography"} & set(
        modules.strip("[]").replace("'", "").split(", ")
    )
    for command in re.findall(r"^  (\w+)  ", help_text, re.MULTILINE):
        shown = run_here([command, "--help"], {})
        assert (shown.returncode, shown.stderr) == (0, "")
        assert shown.stdout.startswith("Usage: ")
