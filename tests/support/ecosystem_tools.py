"""Run the commands of Alembic and Procrastinate as an operator types them."""

import subprocess

from tests.conftest import clean_environment
from tests.support.system import Database


def tool(database: Database, *command: str) -> str:
    """Run a tool on `database`, assert that it succeeds, and return what it prints."""
    done = subprocess.run(
        command, env=clean_environment(DATABASE_URL=database.url), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
