"""How is an answer read that is almost JSON? By mending what one odd ticket in it can break, and nothing else.

ServiceDesk Plus leaves half a character where it cuts a text; other programs write NaN, or a line break within a text.
One such ticket would hold up all that are listed beside it.
"""

import re

MOST_BYTES = 4 * 1024 * 1024  # of an answer that is mended
MOST_TOKENS = 200_000  # texts and brackets in it; together they take a second or two. A ticket has a few hundred
DEEPEST = 64  # members in members; what is deeper becomes null
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|-?(?:NaN|Infinity)|[\[{]|[\]}]', re.DOTALL)
# Escapes that JSON knows are kept: half of a pair, and one that it does not know, become a question mark.
_ESCAPES = re.compile(
    r"((?:\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u(?![dD][89a-fA-F])[0-9a-fA-F]{4}"
    r'|\\["\\/bfnrt])++)|\\u[0-9a-fA-F]{4}|\\.',
    re.DOTALL,
)
_STEPS = {b"[": 1, b"{": 1, b"]": -1, b"}": -1}
_CONTROLS = {number: f"\\u{number:04x}" for number in range(32)}


def mended(body: bytes) -> bytes:
    """Return a body without what JSON in UTF-8 cannot hold; unchanged where it is too long for that."""
    if len(body) > MOST_BYTES:
        return body
    parts, copied, depth = list[bytes](), 0, 0
    for number, token in enumerate(_TOKEN.finditer(body)):
        if number == MOST_TOKENS:
            return body
        step = _STEPS.get(token[0], 0)
        depth += max(step, 0)
        if depth <= DEEPEST or depth - step == DEEPEST:
            parts += [body[copied : token.start()], _replaced(token[0]) if depth <= DEEPEST else b"null"]
        copied = token.end()
        depth += min(step, 0)
    return b"".join([*parts, body[copied:]])


def _replaced(token: bytes) -> bytes:
    """Return what stands for a text, a bracket, or a number that JSON does not have."""
    if not token.startswith(b'"'):
        return token if token in _STEPS else b"null"
    text = token.decode(errors="replace")
    if "\\" in text:
        text = _ESCAPES.sub(_escape, text)
    return text.translate(_CONTROLS).encode()


def _escape(found: re.Match[str]) -> str:
    """Return escapes as they are, but for what JSON or UTF-8 does not have: half a character, or an unknown letter."""
    return str(found[1] or "?")
