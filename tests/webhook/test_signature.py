"""Every spelling of a signature that the contract allows verifies, and no other does."""

import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.webhook import signature

pytestmark = pytest.mark.one_postgres

SECRET, BODY = b"a secret", '{"subject": "Größe"}'.encode()
DIGEST = hmac.new(SECRET, BODY, hashlib.sha256).digest()
SPELLINGS = [DIGEST.hex(), DIGEST.hex().upper(), base64.b64encode(DIGEST).decode()]


def test_it_signs_as_the_vendor_does() -> None:
    """The test vector of zoho.encryption.hmacsha256's documentation."""
    signed = signature.sign(b"sk_5Ow7B_4eC39H", b"{Order ID: 0932, Currency: USD, Amount: 2500}")
    assert signed == "sha256=13721963e7ac439f5a2e63c261856393647f3f51b493beebf5919af4bc3de19c"


@pytest.mark.parametrize("prefix", ["", "sha256="])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_each_spelling_verifies(prefix: str, spelling: str) -> None:
    assert signature.verify([SECRET], BODY, prefix + spelling)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "sha256=",
        "sha256",
        "sha1=" + DIGEST.hex(),
        "SHA256=" + DIGEST.hex(),
        "sha256=sha256=" + DIGEST.hex(),
        DIGEST.hex()[:-1],
        DIGEST.hex() + "0",
        DIGEST.hex() + "\n",
        " ".join(DIGEST.hex()),
        base64.b64encode(DIGEST).decode().rstrip("="),
        base64.b64encode(DIGEST).decode() + "=",
        base64.b64encode(DIGEST[:31]).decode(),
        base64.b64encode(DIGEST.hex().encode()).decode(),
        "٣" * 64,
        "ÿ" * 44,
    ],
)
def test_nothing_else_verifies(header: str | None) -> None:
    assert not signature.verify([SECRET], BODY, header)


@pytest.mark.parametrize("spelling", [DIGEST.hex(), base64.b64encode(DIGEST).decode()])
def test_every_character_counts(spelling: str) -> None:
    """No second spelling of a digest verifies, not even one that differs only in base64's unused bits."""
    for place, character in enumerate(spelling.rstrip("=")):
        for other in "0123456789abcdefABCDEFghXYZ+/":
            if other != character and (other.lower() != character or len(spelling) == len("base64") + 38):
                changed = spelling[:place] + other + spelling[place + 1 :]
                assert not signature.verify([SECRET], BODY, changed), (place, other)


def test_one_of_several_secrets_is_enough() -> None:
    assert signature.verify([b"the newer one", SECRET], BODY, DIGEST.hex())
    assert not signature.verify([b"the newer one", b"the one before"], BODY, DIGEST.hex())


@given(st.binary(min_size=1), st.binary())
def test_what_sign_makes_verifies_for_these_bytes_only(secret: bytes, body: bytes) -> None:
    signed = signature.sign(secret, body)
    assert signature.verify([secret], body, signed)
    assert not signature.verify([secret], body + b" ", signed)
    assert not signature.verify([secret + b"x"], body, signed)
