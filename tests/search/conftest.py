"""A tenant with a token and tickets, which the module's server knows from its start."""

import pytest

from tests.support.questions import add_ticket, add_token
from tests.support.system import Database, Server, Tenant


@pytest.fixture(scope="module")
def acme(module_database: Database, secrets_key: str) -> Tenant:
    """A tenant with two tickets about a VPN, one of them without a resolution."""
    tenant = module_database.add_tenant(secrets_key, "acme")
    add_ticket(module_database, "acme", "155000")
    add_ticket(module_database, "acme", "155001", resolution="", tags=["vpn"])
    return tenant


@pytest.fixture(scope="module")
def globex(module_database: Database, secrets_key: str) -> Tenant:
    """Another tenant, with a ticket of the same words and tags of its own."""
    tenant = module_database.add_tenant(secrets_key, "globex")
    add_ticket(module_database, "globex", "777", tags=["theirs"], priority="Theirs")
    return tenant


@pytest.fixture(scope="module")
def token(module_database: Database, acme: Tenant) -> str:
    return add_token(module_database, acme.id)


@pytest.fixture(scope="module")
def no_tokens(module_database: Database, acme: Tenant, globex: Tenant, secrets_key: str) -> dict[str, str]:
    """Tokens that show nothing, by what is wrong with each."""
    revoked, disabled = add_token(module_database, acme.id, "revoked"), module_database.add_tenant(secrets_key)
    module_database.query("UPDATE read_tokens SET revoked_at = now() WHERE name = 'revoked'")
    of_disabled = add_token(module_database, disabled.id)
    module_database.query("UPDATE tenant_configs SET enabled = false WHERE tenant_id = %s", disabled.id)
    return {"revoked": revoked, "of a disabled tenant": of_disabled, "a webhook's secret": globex.secret}


@pytest.fixture(scope="module")
def asked(token: str, no_tokens: dict[str, str], server: Server) -> Server:  # noqa: ARG001  (they exist first)
    """The module's server."""
    return server
