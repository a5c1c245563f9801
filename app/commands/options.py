"""Which options and arguments do several commands share?"""

import re
from datetime import timedelta

import click

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "y": 365 * 86_400}
CENTURY = 36_500  # days
LONGEST = 100  # characters of a tenant's id

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
    """Return the id of a tenant that may exist, whatever its characters. Raises a usage error if none can have it."""
    if not (1 <= len(value) <= LONGEST and is_text(value)):
        raise click.BadParameter(f"a tenant's id has 1 to {LONGEST} characters, in UTF-8")
    return value


def checked_new_tenant_id(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    """Return the id of a tenant to add. Raises a usage error for characters that look like others, or like none."""
    rule = f"a new tenant's id has 1 to {LONGEST} of the characters A-Z a-z 0-9 . _ -"
    if wrong := re.search(r"[^A-Za-z0-9._-]", value):
        raise click.BadParameter(f"{rule}; {value!a} has {wrong[0]!a} (U+{ord(wrong[0]):04X})")
    if not 1 <= len(value) <= LONGEST:
        raise click.BadParameter(f"{rule}; this one has {len(value)}")
    return value


def is_text(value: str) -> bool:
    """Return False for bytes of the command line that are no UTF-8, which Python keeps as lone surrogates."""
    return not re.search("[\ud800-\udfff]", value)


tenant_argument = click.argument("tenant_id", metavar="ID", callback=checked_tenant_id)
new_tenant_argument = click.argument("tenant_id", metavar="ID", callback=checked_new_tenant_id)
