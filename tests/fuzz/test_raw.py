"""Run the fuzzer for a few seconds; `python -m tests.fuzz.raw` runs it for minutes."""

import random

import pytest

from tests.fuzz import raw
from tests.support.system import Server, Tenant

pytestmark = pytest.mark.one_postgres


def test_no_bytes_make_it_err(server: Server, tenant: Tenant) -> None:
    """The seed is a new one each time, and a failure prints it."""
    counts = raw.fuzz(server, tenant, random.SystemRandom().randrange(2**32), seconds=4)
    assert counts[202], "no case was good: the mutations are too wild"
    assert counts[400], "no case was bad"


def test_a_case_can_be_sent_again(tenant: Tenant) -> None:
    good = raw.seeds(tenant)
    assert raw.mutated(random.Random("7-1"), good) == raw.mutated(random.Random("7-1"), good)
    assert raw.mutated(random.Random("7-1"), good) != raw.mutated(random.Random("7-2"), good)
