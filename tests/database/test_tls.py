"""TLS to Postgres: both drivers trust the same certificates, show the same one, and refuse alike, in words."""

import ssl
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest

from app.dev.embedded_postgres import EmbeddedPostgres
from db import parameters, tls
from db.libpq import ParameterError
from tests.faults.world import socket_of
from tests.support.certificates import Authority
from tests.support.tls_port import TlsPort
from tests.support.two_drivers import DRIVERS, ask, ask_both, refused_by

pytestmark = pytest.mark.one_postgres


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(tmp_path_factory.mktemp("known"))
    for name, host in {"server": "localhost", "elsewhere": "db.example", "client": "postgres"}.items():
        made.sign(name, host)
    made.sign("locked", "postgres", "a word")
    return made


@pytest.fixture(scope="module")
def unknown(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("unknown"))


@pytest.fixture
def there(own_postgres: EmbeddedPostgres, authority: Authority) -> TlsPort:
    return TlsPort(socket_of(own_postgres), authority.directory / "server.crt", authority.path)


@pytest.fixture
def port(there: TlsPort) -> Iterator[int]:
    with there.running() as found:
        yield found


@pytest.fixture
def no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without files of ours."""
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def url_of(port: int, /, **given: object) -> str:
    query = urlencode({name: str(value) for name, value in given.items()}, quote_via=quote)
    return f"postgresql://postgres@localhost:{port}/postgres?{query}"


@pytest.mark.usefixtures("no_home")
@pytest.mark.parametrize("mode", ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"])
def test_every_mode(there: TlsPort, port: int, authority: Authority, mode: str) -> None:
    ask_both(url_of(port, sslmode=mode, sslrootcert=authority.path))
    assert (len(there.clients), there.plain) == ((0, 2) if mode in ("disable", "allow") else (2, 0))
    assert set(there.names) <= {"localhost"}


@pytest.mark.usefixtures("no_home")
@pytest.mark.parametrize("mode", ["allow", "prefer", "require"])
def test_a_postgres_without_tls(own_postgres: EmbeddedPostgres, mode: str) -> None:
    with TlsPort(socket_of(own_postgres), None).running() as port:
        refused = {driver: refused_by(url_of(port, sslmode=mode), driver) for driver in DRIVERS}
    assert [bool(why) for why in refused.values()] == [mode == "require"] * 2, refused


@pytest.mark.usefixtures("no_home")
@pytest.mark.parametrize("driver", DRIVERS)
def test_whom_it_does_not_trust(
    own_postgres: EmbeddedPostgres, port: int, authority: Authority, unknown: Authority, driver: str
) -> None:
    """An unknown authority, another host's certificate, a revoked one: each is refused, also by sslmode=require."""
    for mode in ("require", "verify-ca", "verify-full"):
        assert "certificate verify failed" in refused_by(url_of(port, sslmode=mode, sslrootcert=unknown.path), driver)
    assert "certificate verify failed" in refused_by(url_of(port, sslrootcert="system"), driver)
    revoked = authority.revoke(authority.directory / "server.crt")
    given = {"sslmode": "verify-full", "sslrootcert": authority.path}
    assert "certificate verify failed" in refused_by(url_of(port, sslcrl=revoked, **given), driver)
    assert refused_by(url_of(port, sslcrl=authority.revoke(), **given), driver) == ""
    other = TlsPort(socket_of(own_postgres), authority.directory / "elsewhere.crt")
    with other.running() as elsewhere:
        assert "localhost" in refused_by(url_of(elsewhere, **given), driver)
        assert refused_by(url_of(elsewhere, host="db.example", hostaddr="127.0.0.1", **given), driver) == ""
        assert set(other.names) == {"localhost", "db.example"}


@pytest.mark.usefixtures("no_home")
def test_the_systems_trust_store(
    port: int, authority: Authority, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`system` is one file for both drivers: psycopg's own libpq would look in a directory that no system has."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.path))
    assert ssl.get_default_verify_paths().cafile == str(authority.path)
    ask_both(url_of(port, sslrootcert="system"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none"))
    monkeypatch.setattr(parameters, "TRUST_STORES", ())
    with pytest.raises(ParameterError, match=r"this system has no trust store: it must be the path of a file, or the"):
        parameters.with_variables(url_of(port, sslrootcert="system"), {})


@pytest.mark.usefixtures("no_home")
def test_our_own_certificate(there: TlsPort, port: int, authority: Authority) -> None:
    directory = authority.directory
    for name, given in {"client": {}, "locked": {"sslpassword": "a word"}}.items():
        files = {"sslcert": directory / f"{name}.crt", "sslkey": directory / f"{name}.key"}
        ask_both(url_of(port, sslmode="require", **files, **given))
        assert [bool(one) for one in there.clients[-2:]] == [True, True]
        ask_both(url_of(port, sslmode="require", sslcertmode="disable", **files))
        assert [bool(one) for one in there.clients[-2:]] == [False, False]
    ask_both(url_of(port, sslmode="require", sslsni=0))
    assert there.names[-2:] == [None, None]


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_key_that_cannot_be_used(port: int, authority: Authority, no_home: Path, driver: str) -> None:
    open_key = no_home / "open.key"
    open_key.write_bytes((authority.directory / "client.key").read_bytes())
    open_key.chmod(0o644)
    for key, words in ((open_key, "open.key"), (authority.directory / "locked.key", "locked.key|client.crt")):
        why = refused_by(
            url_of(port, sslmode="require", sslcert=authority.directory / "client.crt", sslkey=key), driver
        )
        assert any(word in why for word in words.split("|")), why


def test_files_in_the_users_home(
    there: TlsPort, port: int, authority: Authority, unknown: Authority, no_home: Path
) -> None:
    """Both drivers take them from HOME, read them again for each session, and go without what they may not read."""
    ours = no_home / ".postgresql"
    ours.mkdir()
    for name, source in {"root.crt": "ca.crt", "postgresql.crt": "client.crt", "postgresql.key": "client.key"}.items():
        (ours / name).write_bytes((authority.directory / source).read_bytes())
        (ours / name).chmod(0o600)
    ask_both(url_of(port, sslmode="verify-full"))
    assert [bool(one) for one in there.clients] == [True, True]
    (ours / "root.crt").write_bytes(unknown.path.read_bytes())
    for driver in DRIVERS:
        assert "certificate verify failed" in refused_by(url_of(port, sslmode="require"), driver)
    for path in ours.iterdir():
        path.unlink()
    ask_both(url_of(port, sslmode="require"))
    for driver in DRIVERS:
        assert "root.crt" in refused_by(url_of(port, sslmode="verify-full"), driver)


@pytest.mark.usefixtures("no_home")
def test_tls_from_the_first_byte(there: TlsPort, authority: Authority) -> None:
    with there.running(direct=True) as port:
        ask_both(url_of(port, sslnegotiation="direct", sslmode="verify-full", sslrootcert=authority.path))
    assert len(there.clients) == 2


@pytest.mark.usefixtures("no_home")
def test_a_renewed_certificate_is_read_again(
    port: int, authority: Authority, unknown: Authority, tmp_path: Path
) -> None:
    roots = tmp_path / "roots.crt"
    roots.write_bytes(unknown.path.read_bytes())
    url = url_of(port, sslmode="verify-full", sslrootcert=roots)
    assert refused_by(url, "asyncpg")
    roots.write_bytes(authority.path.read_bytes())
    assert ask(url, "asyncpg") == 1
    roots.unlink()
    assert str(roots) in refused_by(url, "asyncpg")
    assert issubclass(tls.CertificateError, OSError)
