"""What `doctor` makes of the signatures that were counted: what has to be mended, and what a stranger may have sent."""

import pytest

from tests.support.commands_in_process import run_here
from tests.support.system import Database

pytestmark = pytest.mark.one_postgres

Environment = dict[str, str]


def test_doctor_says_which_secret_the_sender_uses_and_that_a_clock_is_wrong(
    database: Database, environment: Environment, secrets_key: str
) -> None:
    database.add_tenant(secrets_key, "acme")
    database.query(
        "UPDATE tenant_configs SET previous_secret = secret, previous_secret_ends_at = now() + interval '5 hours', "
        "updated_at = now() - interval '3 hours'"
    )
    database.query(
        "INSERT INTO signature_counts (tenant_id, hour, untimely, last_failed_at, last_verified_at, last_previous_at) "
        "VALUES ('acme', date_trunc('hour', now(), 'UTC'), 3, now() - interval '4 hours', now() - interval '2 hours', now() - interval '2 hours')"
    )
    done = run_here(["doctor", "--tenant", "acme", "--url", "http://127.0.0.1:9"], environment)
    assert (
        "note  3 signatures failed within a day (3 without a time, or with one too far from now, the last"
        in done.stdout
    )
    assert "but one last verified 2 h ago. If they go on: Set the sender's clock" in done.stdout
    assert (
        "made with the secret before the newest, which verifies for 5 h more: set the newest at the sender"
        in done.stdout
    )


def test_a_stranger_that_fails_all_the_time_makes_doctor_ask_for_no_mending(
    database: Database, environment: Environment, secrets_key: str
) -> None:
    database.add_tenant(secrets_key, "acme")
    for verified, changed, previous, kind in (
        ("5 s", "1 day", None, "note"),  # a stranger's come every second
        ("1 h", "1 day", None, "wrong"),  # none verified meanwhile
        ("5 s", "3 s", None, "wrong"),  # rotated without a grace
        ("5 s", "1 day", "5 s", "wrong"),  # by a secret whose grace is over
    ):
        database.query("UPDATE tenant_configs SET updated_at = now() - CAST(%s AS interval)", changed)
        database.query("DELETE FROM signature_counts")
        database.query(
            "INSERT INTO signature_counts (tenant_id, hour, wrong, last_failed_at, last_verified_at, last_previous_at) SELECT "
            "'acme', date_trunc('hour', now(), 'UTC'), 300, now() - interval '1 s', now() - CAST(%s AS interval), now() - CAST(%s AS interval)",
            verified, previous,
        )  # fmt: skip
        done = run_here(["doctor", "--tenant", "acme", "--url", "http://127.0.0.1:9"], environment)
        assert f"{kind:6}300 signatures failed within a day" in done.stdout
