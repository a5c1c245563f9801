"""Where is a setting looked for, and what is dropped of its value?"""

import re
from collections.abc import Callable

import pytest

from app import settings
from app.settings import Settings, WrongSettingError, values
from tests import ROOT
from tests.conftest import clean_environment
from tests.support.commands_in_process import invoke
from tests.support.system import Worker

pytestmark = pytest.mark.one_postgres

KEYS = [letter * 42 + "A=" for letter in "AB"]
KUBERNETES = {
    "TICKET_INBOX_SERVICE_HOST": "10.0.0.1",
    "TICKET_INBOX_SERVICE_PORT": "80",
    "TICKET_INBOX_SERVICE_PORT_HTTP": "80",
    "TICKET_INBOX_PORT": "tcp://10.0.0.1:80",
    "TICKET_INBOX_PORT_80_TCP": "tcp://10.0.0.1:80",
    "TICKET_INBOX_PORT_80_TCP_PROTO": "tcp",
    "TICKET_INBOX_PORT_80_TCP_PORT": "80",
    "TICKET_INBOX_PORT_80_TCP_ADDR": "10.0.0.1",
    "TICKET_INBOX_CONSOLE_SERVICE_HOST": "10.0.0.2",
    "TICKET_INBOX_CONSOLE_PORT": "tcp://10.0.0.2:80",
    "TICKET_INBOX_CONSOLE_PORT_80_UDP_ADDR": "10.0.0.2",
}


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("PORT", " 8123\n", 8123),
        ("PORT", '"8123"', 8123),
        ("PORT", "' 8123 '\r\n", 8123),
        ("PORT", "\ufeff8123", 8123),
        ("PORT", ' "" \n', 8000),
        ("TENANT_RATE", "“0.5”", 0.5),
        ("LOG_LEVEL", '"DEBUG"\n', "debug"),
        ("HOST", "[::1]", "::1"),
        ("HOST", '"[::]"\n', "::"),
        ("HOST", "fe80::1%eth0", "fe80::1%eth0"),
        ("HOST", "\tdb.example.com ", "db.example.com"),
        ("DATABASE_URL", "'postgresql://u:p@h/d'\n", "postgresql://u:p@h/d"),
        ("DATABASE_URL", '"postgresql://u:p\'x@h/d"', "postgresql://u:p'x@h/d"),
        ("JAEGER_URL", '"http://localhost:16686"', "http://localhost:16686"),
        ("SECRETS_KEY", f"{KEYS[0]}\n", KEYS[0]),
        ("SECRETS_KEY", f'"{KEYS[0]}", "{KEYS[1]}"\n', ",".join(KEYS)),
        ("SECRETS_KEY", f"'{KEYS[0]},\n{KEYS[1]}'", ",".join(KEYS)),
        ("RESOLVED_STATUSES", '"Resolved, On hold"\n', "Resolved, On hold"),
        ("RESOLVED_STATUSES", "Resolved,The customers'", "Resolved,The customers'"),
        ("DEV_DIR", "/tmp/a directory's name", "/tmp/a directory's name"),
        ("DEV_DIR", "a blank and a quote' ", "a blank and a quote' "),
        ("DEV_DIR", "\n", ".ticket-inbox"),
    ],
)
def test_what_cannot_be_meant_is_dropped(name: str, text: str, found: object) -> None:
    assert getattr(settings.load({name: text}), name.lower()) == found


@pytest.mark.parametrize(
    ("name", "text", "trouble"),
    [
        ("PORT", '"8123', "begins with a quote"),
        ("PORT", "8123'", "ends with a quote"),
        ("PORT", "80\n81", "holds a line break"),
        ("DATABASE_URL", "postgresql://u:hunter2@h/d'", "ends with a quote"),
        ("DATABASE_URL", "postgresql://u:hunter2\nx@h/d", "holds a line break"),
        ("SECRETS_KEY", "\n".join(KEYS), "holds a line break"),
        ("RESOLVED_STATUSES", '"Resolved","Closed"', "begins with a quote"),
        ("RESOLVED_STATUSES", "Resolved\nClosed", "holds a line break"),
        ("DEV_DIR", "/var/lib/x\n", "ends with a line break"),
        ("DEV_DIR", " /var/lib/x", "begins with a blank"),
        ("DEV_DIR", "'/var/lib/x'", "begins with a quote"),
        ("HOST", "http://0.0.0.0", "is wrong"),
        ("HOST", "0.0.0.0:8000", "is wrong"),
        ("HOST", "[::1]:8000", "is wrong"),
        ("HOST", "[localhost]", "is wrong"),
        ("HOST", "a b", "is wrong"),
        ("JAEGER_URL", "http://local host", "is wrong"),
        ("JAEGER_URL", "http://:16686", "is wrong"),
        ("JAEGER_URL", "http://hunter2@[::1", "is wrong"),
        ("JAEGER_URL", "http://localhost:pages", "is wrong"),
    ],
)
def test_what_could_be_meant_is_named(name: str, text: str, trouble: str) -> None:
    for variable in (name, f"TICKET_INBOX_{name}"):
        with pytest.raises(WrongSettingError) as wrong:
            settings.load({variable: text})
        assert str(wrong.value).startswith(f"{variable} {trouble}: it must be ")
        assert len(str(wrong.value).splitlines()) == 1
        assert "hunter2" not in str(wrong.value)


@pytest.mark.parametrize("name", Settings.__struct_fields__)
def test_the_long_name_of_every_setting_wins(name: str) -> None:
    """Also where the short one is wrong; an empty one counts as unset."""
    short, long = name.upper(), f"TICKET_INBOX_{name.upper()}"
    examples = {"database_url": "postgresql://h/d", "secrets_key": KEYS[0], "jaeger_url": "http://j", "host": "h"}
    right = examples.get(name, str(getattr(Settings(), name)))
    assert settings.load({short: "\nwrong,\n\n", long: right}) == settings.load({short: right})
    assert settings.load({short: right, long: " "}) == settings.load({short: right})


@pytest.mark.parametrize("name", ["PORT", "WORKER_METRICS_PORT"])
def test_an_address_of_a_service_is_no_port(name: str) -> None:
    address, long = "tcp://10.0.0.1:80", f"TICKET_INBOX_{name}"
    default = getattr(Settings(), name.lower())
    for env, port, remarked in (
        ({name: address}, default, [name]),
        ({name: f'"{address}"\n'}, default, [name]),
        ({name: address, long: "81"}, 81, []),
        ({name: "81", long: address}, 81, [long]),
        ({name: address, long: address}, default, [long, name]),
        ({name: "81"}, 81, []),
    ):
        assert getattr(settings.load(env), name.lower()) == port
        assert [line.split()[0] for line in settings.remarks([name.lower()], env)] == remarked
        assert settings.remarks([], env) == []


def test_an_address_of_a_service_is_wrong_elsewhere() -> None:
    with pytest.raises(WrongSettingError):
        settings.load({"MAX_CONNECTIONS": "tcp://10.0.0.1:80"})


def test_a_misspelled_name_is_remarked_on_and_no_other() -> None:
    assert settings.remarks([], {"TICKET_INBOX_HOTS": "x", "TICKET_INBOX_XYZ": "x", "OTHER": "x"}) == [
        "TICKET_INBOX_HOTS is no setting: did you mean TICKET_INBOX_HOST?",
        "TICKET_INBOX_XYZ is no setting: docs/settings.md lists them",
    ]
    assert settings.remarks([], KUBERNETES | {"TICKET_INBOX_HOTS": ""}) == []
    assert settings.load(KUBERNETES) == Settings()


def test_the_senders_names_are_no_settings_and_no_remark_is_made_on_them() -> None:
    """But for the longest body: the server's setting, by which a sender leaves out pictures."""
    places = [*ROOT.glob("docs/webhooks/senders/*"), *ROOT.glob("app/**/*.py")]
    found = {name for path in places for name in re.findall(r'TICKET_INBOX_\w+(?=["\'` ])', path.read_text())}
    theirs = found - {"TICKET_INBOX_HOST", "TICKET_INBOX_MAX_BODY_BYTES"}
    assert {"TICKET_INBOX_SECRET", "TICKET_INBOX_URL", "TICKET_INBOX_SDP_CREDENTIALS"} < theirs
    assert settings.remarks([], dict.fromkeys(theirs, "x")) == []
    assert not {f"TICKET_INBOX_{name.upper()}" for name in Settings.__struct_fields__} & theirs


def test_a_command_prints_the_remarks_on_its_settings() -> None:
    env = {"DATABASE_URL": "postgresql://127.0.0.1:1/x", "TICKET_INBOX_HOTS": "x", "PORT": "tcp://10.0.0.1:80"}
    [first, last] = invoke(clean_environment(**env), "status").stderr.splitlines()
    assert first.startswith("Warning: TICKET_INBOX_HOTS is no setting")
    assert last.startswith("Error: Postgres cannot be reached")
    key = {"SECRETS_KEY": KEYS[0]}
    first, *_ = invoke(clean_environment(**env, **key), "doctor", "--tenant", "t").stderr.splitlines()
    assert first.startswith("Warning: PORT is an address like tcp://")


def test_a_process_logs_the_remarks_once(start_worker: Callable[..., Worker]) -> None:
    worker = start_worker(PORT="http", WORKER_METRICS_PORT="tcp://10.0.0.1:80", TICKET_INBOX_HOTS="x")
    worker.wait_for_line("worker_started", within=30)
    service, misspelled = (line["error"] for line in worker.lines("setting_ignored"))
    assert service.startswith("WORKER_METRICS_PORT is an address")
    assert misspelled.startswith("TICKET_INBOX_HOTS is no setting")


def test_quotes_within_a_value_stay() -> None:
    assert [values.bare(text) for text in ('"a" "b"', "it's", '"', "''", " 'a' ")] == ['"a" "b"', "it's", '"', "", "a"]
