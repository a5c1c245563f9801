"""Which options and arguments do several commands share?"""

import re
from datetime import timedelta

import click

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "y": 365 * 86_400}
CENTURY = 36_500  # days

as_json = click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts.")


class Duration(click.ParamType[timedelta]):
    """A number and its unit, such as 90s, 15m, 24h, 7d or 2y (of 365 days), up to `days`."""

    name = "duration"

    def __init__(self, days: int) -> None:
        self._days = days

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Return the duration. Raises a usage error if it is none, or too long."""
        if isinstance(value, timedelta):
            return value
        found = re.fullmatch(r"(\d{1,9})([smhdy])", str(value), re.ASCII)
        seconds = int(found[1]) * UNITS[found[2]] if found else None
        if seconds is None or seconds > self._days * UNITS["d"]:
            rule = "give a number and s, m, h, d or y, such as 24h"
            self.fail(f"{value!r} is no duration of at most {self._days}d: {rule}", param, ctx)
        return timedelta(seconds=seconds)


def checked_tenant_id(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    """Return a tenant's id. Raises a usage error if it cannot be one."""
    if not (1 <= len(value) <= 100 and value.isprintable() and value.strip()):  # noqa: PLR2004
        raise click.BadParameter("a tenant's id has 1 to 100 printable characters, not only spaces")
    return value


tenant_argument = click.argument("tenant_id", metavar="ID", callback=checked_tenant_id)
