"""The house rules are kept: imports go one way, files stay short, requirements.txt agrees with pyproject.toml."""

import ast
import importlib.machinery
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests import ROOT

pytestmark = pytest.mark.one_postgres

ROOMS = ("app", "db", "jobs", "migrations", "otel")
OWNERS = {
    str(Path(str(one.locate_file(file))).resolve()): one.name.lower().replace("_", "-")
    for one in importlib.metadata.distributions()
    for file in one.files or []
}


def test_imports_go_one_way() -> None:
    """Jobs → app → db → otel, and never back; the contract is in pyproject.toml."""
    done = subprocess.run(["lint-imports"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "room", ["commands", "dev", "event", "importing", "sdp", "search", "server", "settings", "webhook"]
)
def test_a_room_keeps_its_other_modules_to_itself(room: str) -> None:
    """A room's `__init__` names its doors; import-linter refuses imports of its other modules from outside."""
    door_list = (ast.get_docstring(ast.parse((ROOT / f"app/{room}/__init__.py").read_text())) or "").partition(
        "Doors: "
    )[2]
    doors = set(re.findall(r"`(\w+)`", door_list))
    modules = {path.stem for path in (ROOT / f"app/{room}").glob("*.py")} - {"__init__"}
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    protected = [one["protected_modules"] for one in contracts if one.get("allowed_importers") == [f"app.{room}"]]
    assert doors <= modules
    assert {f"app.{room}.{name}" for name in modules - doors} == {name for names in protected for name in names}


def test_no_module_imports_what_another_keeps_private() -> None:
    for name in imported():
        room, *parts = name.split(".")
        assert room not in ROOMS or not any(part.startswith("_") for part in parts), name


def test_the_dependencies_declared_are_those_imported() -> None:
    """Each module that the code imports belongs to a declared package, and each declared package is imported."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = project["dependencies"] + project["optional-dependencies"]["embedded"]
    names = {re.split(r"[\[<>=;]", one)[0] for one in declared}
    used = {package_of(name) for name in imported()} - {None}
    assert names - {"greenlet"} == used  # SQLAlchemy needs it and does not require it


def imported() -> Iterator[str]:
    """Return the full name of everything that the code imports."""
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    yield from (one.name for one in node.names)
                elif isinstance(node, ast.ImportFrom):
                    yield from (f"{node.module}.{one.name}" for one in node.names)


def package_of(name: str) -> str | None:
    """Return the distribution that contains a module, or a name in it; None for Python's own and for ours."""
    if name.partition(".")[0] in {*sys.stdlib_module_names, *ROOMS}:
        return None
    try:
        with warnings.catch_warnings(action="ignore"):  # find_spec imports the packages above it, which may warn
            spec = importlib.util.find_spec(name)
    except (ModuleNotFoundError, ValueError):  # not a module, or a module without a spec
        spec = None
    if spec is None or spec.origin is None:
        return package_of(name.rpartition(".")[0])
    return OWNERS[str(Path(spec.origin).resolve())]


def test_sql_is_in_one_room() -> None:
    for room in ("app", "jobs", "otel"):
        for path in (ROOT / room).rglob("*.py"):
            words = set(path.read_text().replace("(", " ").replace('"', " ").split())
            assert not words & {"SELECT", "INSERT", "UPDATE", "DELETE"}, path


def test_everything_is_printed_by_one_function_which_escapes_it() -> None:
    """What others wrote may stand in any line, so each is printed by terminal.echo and its like, or is `printable`."""
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            if path != ROOT / "app/commands/terminal.py":
                for node in ast.walk(ast.parse(path.read_text())):
                    assert not (isinstance(node, ast.Call) and prints_raw(node)), f"{path}:{node.lineno}"


def prints_raw(call: ast.Call) -> bool:
    """Return True for print, click.echo and its like, and SystemExit with words, of what is not escaped."""
    name, words = ast.unparse(call.func), [one for one in call.args if not isinstance(one, ast.Constant)]
    is_printing = name in {"print", "SystemExit", "sys.exit", "click.echo", "click.secho", "click.echo_via_pager"}
    is_printing |= name.startswith(("sys.stdout.", "sys.stderr.", "sys.__std")) and name.endswith(
        ("write", "writelines")
    )
    is_exit_code = name in {"SystemExit", "sys.exit"} and not any(isinstance(one, ast.JoinedStr) for one in words)
    return is_printing and bool(words) and not is_exit_code and "printable(" not in ast.unparse(call)


def test_files_are_short_enough_to_be_found_by_their_names() -> None:
    for room in ("app", "db", "jobs", "otel"):
        for path in (ROOT / room).rglob("*.py"):
            assert len(path.read_text().splitlines()) <= 250, path


def test_the_production_requirements_are_in_step(tmp_path: Path) -> None:
    """requirements.txt is what uv makes of pyproject.toml and the versions in it: hashed, without a host's name."""
    uv = os.environ.get("UV") or shutil.which("uv")
    assert uv, "the tests run under uv, as README.md says"
    kept = (ROOT / "requirements.txt").read_text()
    made = Path(shutil.copy(ROOT / "requirements.txt", tmp_path))
    [line] = re.findall(r"^uv (pip compile .*) --upgrade .*$", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    subprocess.run(
        [uv, *line.split(), "--quiet", "--output-file", made], cwd=ROOT, check=True, stdout=subprocess.DEVNULL
    )
    assert kept == made.read_text(), "make requirements.txt again, as CONTRIBUTING.md says"
    assert "://" not in kept
    packages = re.split(r"^(?=\w)", kept, flags=re.MULTILINE)[1:]
    assert len(packages) > 40
    assert all("--hash=sha256:" in package for package in packages)
    assert "\npytest==" not in kept


def test_a_known_vulnerability_fails_and_an_unanswered_question_is_reported() -> None:
    """`.ci/audit` turns pip-audit's report into one line and an exit code."""
    fine = {"name": "a", "version": "1", "vulns": []}
    bad = {"name": "b", "version": "2", "vulns": [{"id": "PYSEC-1"}, {"id": "PYSEC-2"}]}
    unknown = {"name": "c", "skip_reason": "Dependency not found on PyPI"}
    judge = audit().judge
    assert judge("pypi", [fine, bad, unknown], "") == (
        "pip-audit: 2 known vulnerabilities (pypi): b 2: PYSEC-1; b 2: PYSEC-2",
        1,
    )
    assert judge("pypi", [fine, fine], "") == ("pip-audit: no known vulnerability in 2 packages (pypi)", 0)
    line, code = judge("pypi", [fine, unknown], "")
    assert (line.endswith("1 are unknown there, and NOT audited"), code) == (True, 0)
    assert judge("pypi", [unknown], "") == ("pypi: Dependency not found on PyPI", None)
    assert judge("osv", [], "no network") == ("osv: no network", None)


def audit() -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("audit", str(ROOT / ".ci/audit"))
    spec = importlib.util.spec_from_loader("audit", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module
