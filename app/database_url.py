"""Is this a Postgres URL that both drivers read alike?

Their errors repeat what they cannot read. Part of a password with an unescaped `@`, `/`, `?`, `#` or `%` is taken for a
host, a port or a parameter, and would be logged with the error. So "@" may stand in one place only.
"""

import re

_ESCAPED = r"%(?!00)[0-9A-Fa-f]{2}"
_USER = rf"(?:[^\s/?#\[\]@%:]|{_ESCAPED})*"
_PASSWORD = rf"(?:[^\s/?#\[\]@%]|{_ESCAPED})*"
_HOST = rf"(?:\[[^\s/?#\[\]@]+\]|(?:[^\s/?#\[\]@%:,]|{_ESCAPED})*)(?::[0-9]*)?"
_NAME = rf"(?:[^\s/?#@%]|{_ESCAPED})*"
_PAIR = rf"[a-z_]+=(?:[^\s#@&=%]|{_ESCAPED})*"
_URL = re.compile(
    rf"postgres(?:ql)?://(?:{_USER}(?::{_PASSWORD})?@)?{_HOST}(?:,{_HOST})*(?:/{_NAME})?(?:\?{_PAIR}(?:&{_PAIR})*)?"
)


def is_one(text: str) -> bool:
    """Return True if `text` is a URL as libpq writes it, with every ambiguous character percent-encoded."""
    return _URL.fullmatch(text) is not None
