"""Commands that run in the tests' own process, which spares each the imports of a process of its own."""

from click.testing import CliRunner, Result

from app.cli import main

Environment = dict[str, str]


def invoke(env: Environment, *arguments: str) -> Result:
    """Run a command in this process; test_walk runs them as processes."""
    return CliRunner(env=env).invoke(main, arguments, prog_name="ticket-inbox")


def tenant_command(env: Environment, *arguments: str) -> str:
    """Run `ticket-inbox tenant …`, which must go well, and give what it prints."""
    done = invoke(env, "tenant", *arguments)
    assert done.exit_code == 0, done.stderr
    return done.stdout.strip()
