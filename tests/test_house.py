"""The house is kept: imports go one way, files stay short, the production requirements are in step."""

import os
import re
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_imports_go_one_way() -> None:
    """Jobs → app → db → otel, and never back; the contract is in pyproject.toml."""
    done = subprocess.run(["lint-imports"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_sql_is_in_one_room() -> None:
    for room in ("app", "jobs", "otel"):
        for path in (ROOT / room).rglob("*.py"):
            words = set(path.read_text().replace("(", " ").replace('"', " ").split())
            assert not words & {"SELECT", "INSERT", "UPDATE", "DELETE"}, path


def test_files_are_short_enough_to_be_found_by_their_names() -> None:
    for room in ("app", "db", "jobs", "otel"):
        for path in (ROOT / room).rglob("*.py"):
            assert len(path.read_text().splitlines()) <= 250, path


def test_the_production_requirements_are_in_step(tmp_path: Path) -> None:
    """requirements.txt is what uv makes of pyproject.toml and of the versions in it: hashed, without a host's name."""
    uv = os.environ.get("UV") or shutil.which("uv")
    assert uv, "the tests run under uv, as README.md says"
    kept = (ROOT / "requirements.txt").read_text()
    made = Path(shutil.copy(ROOT / "requirements.txt", tmp_path))
    [line] = re.findall(r"^uv (pip compile .*) --upgrade .*$", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    subprocess.run(
        [uv, *line.split(), "--quiet", "--output-file", made], cwd=ROOT, check=True, stdout=subprocess.DEVNULL
    )
    assert kept == made.read_text(), "make it again, as CONTRIBUTING.md says"
    assert "://" not in kept
    assert "--hash=sha256:" in kept
    assert "\npytest==" not in kept
