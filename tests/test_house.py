"""The house is kept: imports go one way, the docs tell the truth, the production requirements are in step."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def blocks(page: Path, language: str) -> list[str]:
    """Give the page's fenced code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def test_imports_go_one_way() -> None:
    done = subprocess.run(["lint-imports"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_files_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text()
    links = [target for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text) if "://" not in target]
    named = re.findall(r"`((?:app|db|jobs|otel|migrations|tests|docs)/[\w./-]+)`", text)
    for path in [page.parent / link for link in links] + [ROOT / name for name in named]:
        assert path.exists(), f"{page.name} names {path}"


def test_commands_that_a_page_names_exist() -> None:
    """Every `ticket-inbox COMMAND …` in the docs, up to its first argument, has a --help."""
    from app.cli import main  # noqa: PLC0415

    for page in PAGES:
        for command in set(
            re.findall(
                r"ticket-inbox ((?:tenant )?[a-z]+)\b",
                " ".join(re.findall(r"`[^`]+`|^.*ticket-inbox .*$", page.read_text(), re.MULTILINE)),
            )
        ):
            first, *rest = command.split()
            if (found := main.commands.get(first)) and rest:
                assert rest[0] in found.commands, f"{page.name}: ticket-inbox {command}"  # type: ignore[attr-defined]
            elif "`ticket-inbox " + command in page.read_text():
                assert found, f"{page.name}: ticket-inbox {command}"


def test_settings_that_a_page_names_exist() -> None:
    from app.settings import Settings  # noqa: PLC0415

    known = {name.upper() for name in Settings.__struct_fields__}
    for page in PAGES:
        for name in re.findall(r"`([A-Z][A-Z_]+_[A-Z_]+)\b", page.read_text()):
            assert name in known or name.startswith(("OTEL_", "XDG_", "TICKET_")), f"{page.name} names {name}"


def test_the_readme_is_short_and_starts_with_the_two_commands() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) < 150
    screen = "\n".join(lines[:30])
    assert "pip install uv && uv run ticket-inbox dev" in screen
    assert "pip install uv && uv run pytest" in screen


@pytest.mark.parametrize("language", ["sh", "python"])
def test_the_readmes_signing_examples_sign(language: str, tmp_path: Path) -> None:
    """Each is run as it stands, against a stand-in for curl or the server that only keeps what it was given."""
    from app import signature  # noqa: PLC0415

    [example] = [block for block in blocks(ROOT / "README.md", language) if "hmac" in block]
    (tmp_path / "ticket.json").write_bytes(b'{"tenant_id": "acme"}')
    program = ["sh", "-c", example] if language == "sh" else [sys.executable, "-c", example]
    fake_curl = tmp_path / "curl"
    fake_curl.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    fake_curl.chmod(0o755)
    env = {**os.environ, "SECRET": "a secret", "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(program, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=30, check=False)
    assert signature.sign(b"a secret", b'{"tenant_id": "acme"}') in done.stdout + done.stderr, done


def test_the_production_requirements_are_in_step_and_name_no_host() -> None:
    """requirements.txt is what `uv export` makes of pyproject.toml, with hashes and without addresses."""
    kept = (ROOT / "requirements.txt").read_text()
    assert "://" not in kept
    assert "--hash=sha256:" in kept
    versions = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", kept, re.MULTILINE))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    for requirement in project["project"]["dependencies"]:
        name = re.split(r"[^\w-]", requirement)[0].lower()
        assert name in versions, f"{name} is missing: make it again, as CONTRIBUTING.md says"
    assert versions["procrastinate"] == "3.10.0"
    assert "pytest" not in versions


def test_no_file_of_the_product_is_too_long_to_be_found_by_its_name() -> None:
    for room in ("app", "db", "jobs", "otel"):
        for path in (ROOT / room).rglob("*.py"):
            assert len(path.read_text().splitlines()) <= 250, path


def test_every_decision_is_listed() -> None:
    decisions = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    numbers = [int(path.name[:4]) for path in decisions]
    assert numbers == list(range(1, len(numbers) + 1))
    assert all(len(path.read_text().splitlines()) < 40 for path in decisions)
