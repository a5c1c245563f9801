"""Each alert is tested until it resolves, and leads to a part of the runbook that exists."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests import ROOT
from tests.telemetry.test_alerts_and_dashboard import RUNBOOK, TESTS, each_rule, read

pytestmark = pytest.mark.one_postgres


def seconds(duration: str) -> int:
    """Return a duration of Prometheus, such as 1h30m, in seconds."""
    parts = re.findall(r"(\d+)([hms])", duration)
    return sum(int(number) * {"h": 3600, "m": 60, "s": 1}[unit] for number, unit in parts)


@each_rule
def test_an_alert_is_tested_on_both_sides_and_until_it_resolves(rule: dict[str, Any]) -> None:
    """It fires in a test, and no longer at a later time of the same test."""
    resolves = False
    for test in (test for name in TESTS for test in read(name)["tests"]):
        cases = [case for case in test["alert_rule_test"] if case["alertname"] == rule["alert"]]
        fires = [seconds(case["eval_time"]) for case in cases if case["exp_alerts"]]
        silent = [seconds(case["eval_time"]) for case in cases if not case["exp_alerts"]]
        resolves |= bool(fires and silent) and max(silent) > max(fires)
    assert resolves


def anchors(page: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them: lower case, no signs, blanks as hyphens."""
    prose = re.sub(r"^ *```.*?^ *```", "", page, flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_rule
def test_an_alert_leads_to_its_part_of_the_runbook(rule: dict[str, Any]) -> None:
    page, anchor = rule["annotations"]["runbook_url"].split("#")
    assert page == "docs/operations.md"
    assert anchor in anchors(RUNBOOK)


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda page: page.name)
def test_a_link_to_a_heading_leads_to_one(page: Path) -> None:
    for path, anchor in re.findall(r"\]\(([\w./-]*)#([^)]+)\)", page.read_text()):
        target = page.parent / path if path else page
        assert anchor in anchors(target.read_text()), (path, anchor)
