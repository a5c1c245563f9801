"""The wheel works from any folder, also one with packages of its own names, and has the pages that its texts name."""

import os
import re
import shutil
import site
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests import ROOT
from tests.conftest import clean_environment
from tests.support.free_ports import free_port
from tests.support.system import Database

pytestmark = pytest.mark.one_postgres

ROOMS = ("app", "db", "jobs", "otel")
FOREIGN = (*ROOMS, "random")  # what a folder may hold: packages of our names, and a module of Python's
PAGE = re.compile(r"(?<![\w./-])docs/[\w./-]+\.\w+")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    uv = os.environ.get("UV") or shutil.which("uv")
    assert uv, "the tests run under uv, as README.md says"
    directory = tmp_path_factory.mktemp("wheel")
    subprocess.run([uv, "build", "--quiet", "--wheel", "--out-dir", directory], cwd=ROOT, check=True)
    [made] = directory.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Path:
    """The wheel in an environment of its own; the packages that it needs are those of the tests."""
    uv = os.environ.get("UV") or shutil.which("uv") or ""
    directory = wheel.parent / "venv"
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, directory], check=True)
    [packages] = directory.glob("lib/python*/site-packages")
    (packages / "others.pth").write_text("\n".join(site.getsitepackages()))
    subprocess.run(
        [uv, "pip", "install", "--quiet", "--offline", "--no-deps", "--python", directory, wheel],
        cwd=wheel.parent, check=True,
    )  # fmt: skip
    return directory


def test_it_works_in_a_folder_with_packages_of_its_names(
    installed: Path, empty_database: Database, tmp_path: Path
) -> None:
    """`dev` migrates, and runs a server and a worker; none imports what lies there."""
    for name in FOREIGN:
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('foreign {name}')")
    env = clean_environment(DATABASE_URL=empty_database.url, PORT=str(free_port()))
    env["PATH"] = f"{installed / 'bin'}{os.pathsep}{env['PATH']}"
    done = subprocess.run(
        ["ticket-inbox", "dev", "--once"],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "foreign" not in done.stdout + done.stderr
    assert empty_database.value("SELECT count(*) FROM ticket_history") == 1
    wrong = subprocess.run(
        ["ticket-inbox", "status"], cwd=tmp_path, env=env | {"DATABASE_URL": "postgresql://x/y?wrong=1"},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    [page] = re.findall(r"see (\S+\.md)", wrong.stderr)
    assert Path(page).read_text() == (ROOT / "docs/managed-postgres.md").read_text()


def test_the_pages_that_its_texts_name_are_in_it(wheel: Path) -> None:
    """And so is each file of ours that such a page names, but for the tests."""
    names = zipfile.ZipFile(wheel).namelist()
    assert "app/dev/samples.jsonl" in names
    there = {name.partition("/share/doc/ticket-inbox/")[2] or name for name in names}
    texts = [path.read_text() for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    pages = {page for text in texts for page in PAGE.findall(text)}
    assert len(pages) > 5
    assert pages <= there
    for page in (name for name in there if name.startswith("docs/") and name.endswith(".md")):
        named = re.findall(r"`((?:app|db|jobs|otel|migrations|docs)/[\w/-]+\.\w+)`", (ROOT / page).read_text())
        assert set(named) <= there, page
