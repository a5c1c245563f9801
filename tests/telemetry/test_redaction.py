"""A secret is taken out of a text before anything else happens to it, however it is written there."""

import html
import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel.redaction import LONGEST, one_line, without

pytestmark = pytest.mark.one_postgres

SECRET = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=12, max_size=60)
WAYS = [str, repr, json.dumps, lambda one: json.dumps(json.dumps(one)), lambda one: quote(one, safe=""), html.escape]


@given(SECRET, st.sampled_from(WAYS), st.sampled_from(WAYS), st.integers(0, 300))
def test_no_part_of_a_secret_is_left(secret: str, way: object, over: object, at: int) -> None:
    assert callable(way)
    assert callable(over)
    text = "#" * at + over(way(secret)) + "#" * 300
    shown = without(text, [secret])
    plain = {secret[start : start + 8] for start in range(len(secret) - 7)}
    assert not [one for one in plain if one in shown and set(one) != {"#"}], shown
    assert len(one_line(text, [secret], 50)) <= 50


def test_a_short_secret_and_none() -> None:
    assert without("no abc here", ["abc"]) == "no … here"
    assert without("the same text", []) == without("the same text", ["", "\\"]) == "the same text"


def test_a_url_shows_neither_user_nor_password() -> None:
    assert without("proxy http://me:hush@proxy:1/ is wrong", []) == "proxy http://…@proxy:1/ is wrong"


def test_a_long_text_does_not_end_within_a_secret() -> None:
    secret = "0123456789abcdef"  # noqa: S105
    assert "0123" not in without("x" * (LONGEST - 4) + secret, [secret])


def test_one_line_is_printable() -> None:
    assert one_line("a\x1b[2J\nb\u202ec") == "a?[2J b?c"
