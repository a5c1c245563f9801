"""The schema is migrated while webhooks come: no webhook is lost, and no process has to stop for it."""

import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests import ROOT
from tests.faults import checker
from tests.faults.traffic import Senders
from tests.faults.world import World, world

pytestmark = pytest.mark.one_postgres


def alembic(made: World, *arguments: str) -> None:
    environment = {**made.servers[0].environment, "DATABASE_URL": made.postgres.url()}
    subprocess.run(["alembic", *arguments], cwd=ROOT, env=environment, check=True, capture_output=True)


@pytest.mark.begins_early
def test_the_schema_is_migrated_while_webhooks_come(binaries: Path) -> None:
    """Processes of this version that begin before it refuse webhooks or take them, and take them once it is done.

    Which of the two depends on what the migration adds: 0014 adds a column that each webhook writes.
    """
    with world(binaries, servers=1, workers=1) as made:
        for part in made.parts:
            part.signal(signal.SIGTERM)
            part.wait()
        alembic(made, "downgrade", "-1")
        for part in made.parts:
            part.start()
        made.servers[0].wait_until_live()
        senders = Senders([made.servers[0].url], made.tenants, seed=5, count=8, rate=60)
        senders.start()
        time.sleep(4)
        before = sum(one.status == 202 for one in senders.sent)
        alembic(made, "upgrade", "head")
        time.sleep(2)
        senders.stop()
        assert {one.status for one in senders.sent} <= {202, 401, 422, 503}
        assert len(senders.sent) > 40
        assert sum(one.status == 202 for one in senders.sent) > before + 20
        assert not [*checker.wait_until_drained(made), *checker.broken_promises(senders.sent, made.database)]
