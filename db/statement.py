"""How does a command read without SQLAlchemy? Statements with named parameters, straight to asyncpg.

SQLAlchemy takes longer to import than everything else that `status` does together.
"""

import re
from typing import Any

# What `sa.text` takes for a parameter: neither a cast nor a part of a word.
_PARAMETER = re.compile(r"(?<![:\w\\]):(\w+)(?!:)")
Session = Any  # an open session of asyncpg, which has no types


class Statement:
    """SQL whose parameters are written `:name`. Its rows have their values by the name of the column."""

    def __init__(self, sql: str) -> None:
        self.names: list[str] = []
        self.sql = _PARAMETER.sub(self._number, sql)

    async def rows(self, session: Session, **values: object) -> list[Any]:
        """Run the statement and return its rows. Raises an error of asyncpg's, or TimeoutError."""
        return list(await session.fetch(self.sql, *[values[name] for name in self.names]))

    async def row(self, session: Session, **values: object) -> Any:  # noqa: ANN401  (asyncpg has no types)
        """Run the statement and return its first row; None if there is none."""
        return await session.fetchrow(self.sql, *[values[name] for name in self.names])

    def _number(self, found: re.Match[str]) -> str:
        name = found[1]
        if name not in self.names:
            self.names.append(name)
        return f"${self.names.index(name) + 1}"
