"""Alerts, dashboard, Collector and compose are right: they name only metrics, labels and services that exist.

If promtool is installed, it checks rules and queries; the other tests need no program.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client.metrics import MetricWrapperBase

from app.sdp.summary import COUNTED
from app.webhook.problems import KINDS
from db import rights
from otel import metrics
from tests import ROOT

pytestmark = pytest.mark.one_postgres

OTEL = ROOT / "otel"
YAML = sorted(OTEL.rglob("*.yaml"))
RUNBOOK = (ROOT / "docs/operations.md").read_text()

# Metrics of Prometheus and of the Collector, and those that prometheus_client has for a process on Linux only.
ELSEWHERE = {"up", "target_info", "process_resident_memory_bytes", "process_cpu_seconds_total"}
PARTS = {"counter": [""], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]}
SCRAPED = {"job", "instance", "le"}  # labels of every metric or every histogram
WORDS = {"and", "bool", "by", "offset", "on", "or", "unless"}


def read(name: str) -> Any:  # noqa: ANN401  (other programs define the format)
    """Read a file in `otel/`."""
    return msgspec.yaml.decode((OTEL / name).read_bytes())


EVERY = [rule for name in ("alerts.yaml", "slo.yaml") for group in read(name)["groups"] for rule in group["rules"]]
RULES = [rule for rule in EVERY if "alert" in rule]
RECORDED = {rule["record"] for rule in EVERY if "record" in rule}
TESTS = sorted(path.name for path in OTEL.glob("*_test.yaml"))
PANELS = json.loads((OTEL / "grafana/dashboard.json").read_text())["panels"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]
EXPRESSIONS = [rule["expr"] for rule in EVERY] + QUERIES
each_expression = pytest.mark.parametrize("expression", EXPRESSIONS)
each_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])


def metrics_in(expression: str) -> set[str]:
    """Return the metrics of a PromQL expression: its words, without labels, ranges, functions and operators."""
    bare = re.sub(r'"[^"]*"', "", expression)
    bare = re.sub(r"\{[^}]*\}|\[[^]]*\]|\b(?:by|on)\s*\([^)]*\)", " ", bare)
    return set(re.findall(r"\b[a-zA-Z_:][\w:]*\b(?!\s*\()", bare)) - WORDS


def labels_in(expression: str) -> Iterator[tuple[str, str]]:
    """Yield each label that a PromQL expression selects or groups by, with a metric that must have it."""
    for metric, selected in re.findall(r"(\w+)\{([^}]*)\}", expression):
        yield from ((metric, label) for label in re.findall(r'(\w+)\s*(?:=~?|!=|!~)\s*"', selected))
    for labels, metric in re.findall(r"\bby\s*\(([^)]*)\)\s*\((?:\w+\()?(\w+)", expression):
        yield from ((metric, label.strip()) for label in labels.split(","))


def labels_of(metric: str) -> set[str]:
    """Return the labels of a metric of ours, from a private attribute: prometheus_client has no public one."""
    family = re.sub(r"_(total|bucket|sum|count)$", "", metric)
    every = [vars(each) for each in vars(metrics).values() if isinstance(each, MetricWrapperBase)]
    ours = {each["_name"]: each["_labelnames"] for each in every} | {"ticket_inbox_rows": ["status"]}
    return {*ours.get(family, []), *SCRAPED}


@pytest.fixture
def exposed() -> set[str]:
    """The names in a scrape, once the server has read the inbox."""
    names = ["pending", "failed", "rejected", "oldest_pending_seconds", "workers_alive", "search_lag_seconds"]
    metrics.inbox_gauges.set(dict.fromkeys(names, 0))
    metrics.worker_heartbeat.watch(float)
    families = re.findall(r"^# TYPE (\w+) (\w+)$", metrics.exposition("")[0].decode(), re.MULTILINE)
    return {name + part for name, kind in families for part in PARTS.get(kind, [])}


def test_metrics_and_labels_are_found_in_an_expression() -> None:
    """The two functions above find what they should in PromQL."""
    expression = 'sum by (le, x) (rate(a_bucket{b=~"c|d", e!=""}[5m])) / f > 0.1 and on () absent(g offset 10m) == 1'
    assert metrics_in(expression) == {"a_bucket", "f", "g"}
    assert set(labels_in(expression)) == {("a_bucket", label) for label in ("le", "x", "b", "e")}
    assert len(EXPRESSIONS) > 20


@each_expression
def test_every_metric_exists(expression: str, exposed: set[str]) -> None:
    assert metrics_in(expression) <= exposed | ELSEWHERE | RECORDED


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda page: page.name)
def test_every_metric_that_a_page_names_exists(page: Path, exposed: set[str]) -> None:
    families = exposed | {re.sub("_(bucket|sum|count)$", "", name) for name in exposed}
    named = re.findall(r"`((?:ticket_inbox|http_server|db_client)_\w+)[`{]", page.read_text())
    roles = tuple(f"ticket_inbox_{kind}" for kind in rights.KINDS)
    assert {name for name in named if not name.startswith(roles)} <= families
    assert named or page.name != "tracing.md"


@each_expression
def test_every_label_exists(expression: str) -> None:
    for metric, label in labels_in(expression):
        assert label in (SCRAPED if metric in ELSEWHERE else labels_of(metric)), metric


@each_expression
def test_every_outcome_exists(expression: str) -> None:
    known = {"accepted", "success", "failure", *COUNTED, *(slug for slug, _ in KINDS.values())}
    for values in re.findall(r'outcome=~?"([^"]*)"', expression):
        assert set(values.split("|")) <= known


@each_rule
def test_an_alert_says_how_bad_it_is_and_what_to_type(rule: dict[str, Any]) -> None:
    """The runbook has the command that the alert gives, and the heading that it names."""
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"]["summary"]
    description = rule["annotations"]["description"]
    typed = [line for line in re.findall("`([^`]+)`", description) if line.split()[0].islower() and " " in line]
    assert typed
    for line in typed:
        shown = line.replace("{{ $labels.tenant_id }}", "acme").split(" '")[0]
        assert line.startswith("curl ") or shown in RUNBOOK, line
    for heading in re.findall(r'docs/operations\.md, "([^"]+)"', description):
        assert f"### … {heading}\n" in RUNBOOK


def promtool(*arguments: str | Path) -> None:
    """Run promtool, and assert that it finds no fault."""
    if not shutil.which("promtool"):
        pytest.skip("promtool is not installed; Debian: apt-get install --no-install-recommends prometheus")
    done = subprocess.run(["promtool", *arguments], cwd=OTEL, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_takes_rules_and_configuration() -> None:
    """The configuration names both files of rules."""
    promtool("check", "config", "prometheus.yaml")


@pytest.mark.parametrize("name", TESTS)
def test_promtool_sees_each_alert_fire_when_it_should(name: str) -> None:
    promtool("test", "rules", name)


def test_promtool_takes_every_query_of_the_dashboard(tmp_path: Path) -> None:
    """The test writes the queries into a temporary file of rules, which promtool can check."""
    queries = [query.replace("$__rate_interval", "5m") for query in QUERIES]
    rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(queries)]
    (tmp_path / "queries.yaml").write_bytes(msgspec.yaml.encode({"groups": [{"name": "queries", "rules": rules}]}))
    promtool("check", "rules", tmp_path / "queries.yaml")


@pytest.mark.parametrize("path", YAML, ids=lambda path: path.name)
def test_yaml_is_yaml(path: Path) -> None:
    assert msgspec.yaml.decode(path.read_bytes(), type=dict)


def test_the_dashboard_names_no_installation() -> None:
    dashboard = json.loads((OTEL / "grafana/dashboard.json").read_text())
    assert dashboard["uid"] == "ticket-inbox"
    assert "id" not in dashboard
    assert {panel["datasource"]["uid"] for panel in PANELS} == {"${datasource}"}
    assert [panel["id"] for panel in PANELS] == list(range(1, len(PANELS) + 1))
    assert (OTEL / "grafana/dashboard.json").read_text() == json.dumps(dashboard, indent=2, ensure_ascii=False) + "\n"


def test_exemplars_lead_to_jaeger() -> None:
    sources = read("grafana/provisioning/datasources/datasources.yaml")["datasources"]
    prometheus, jaeger = (next(each for each in sources if each["type"] == kind) for kind in ("prometheus", "jaeger"))
    [destination] = prometheus["jsonData"]["exemplarTraceIdDestinations"]
    assert destination == {"name": "trace_id", "datasourceUid": jaeger["uid"]}
    assert "--enable-feature=exemplar-storage" in read("compose.yaml")["services"]["prometheus"]["command"]


def test_the_collectors_pipelines_name_exactly_what_is_defined() -> None:
    """A part that no pipeline names would do nothing."""
    collector = read("collector.yaml")
    pipelines = collector["service"]["pipelines"].values()
    for kind in ("receivers", "processors", "exporters"):
        assert {name for pipeline in pipelines for name in pipeline[kind]} == set(collector[kind]), kind
    assert set(collector["service"]["extensions"]) == set(collector["extensions"])
    assert all(pipeline["processors"][0] == "memory_limiter" for pipeline in pipelines)


def test_the_collector_keeps_what_it_should() -> None:
    policies = {policy["type"]: policy for policy in read("collector.yaml")["processors"]["tail_sampling"]["policies"]}
    assert policies["status_code"]["status_code"] == {"status_codes": ["ERROR"]}
    assert policies["latency"]["latency"] == {"threshold_ms": 1000}
    assert policies["numeric_attribute"]["numeric_attribute"]["key"] == "http.response.status_code"
    assert all(policy[kind] for kind, policy in policies.items()), "each policy has the settings of its type"


def test_hosts_and_ports_in_the_files_are_services_that_listen_there() -> None:
    """Every host is a service of the stack, and listens on the port that the file names."""
    prometheus, sources = read("prometheus.yaml"), read("grafana/provisioning/datasources/datasources.yaml")
    said = json.dumps([read("compose.yaml")["services"], read("collector.yaml")["exporters"], prometheus, sources])
    found = {(host, int(port)) for host, port in re.findall(r"\b([a-z]+):(\d{4,5})\b", said)}
    for config in prometheus["scrape_configs"]:
        found |= {(each["names"][0], each["port"]) for each in config.get("dns_sd_configs", [])}
    collector = re.findall(r"(?:0\.0\.0\.0:|port: )(\d+)", (OTEL / "collector.yaml").read_text())
    listening = {
        "postgres": {5432},
        "server": {8000},
        "worker": {int(read("compose.yaml")["services"]["worker"]["environment"]["WORKER_METRICS_PORT"])},
        "collector": set(map(int, collector)),
        "jaeger": {4317, 16686},
        "prometheus": {9090},
    }
    assert {host for host, _ in found} == set(listening)
    assert all(port in listening[host] for host, port in found), found


def test_compose_is_consistent() -> None:
    """Dependencies, volumes and mounted files exist; images have a version; ports are open to this machine only."""
    compose = read("compose.yaml")
    for name, service in compose["services"].items():
        assert set(service.get("depends_on", {})) <= set(compose["services"]), name
        if "build" not in service:
            assert re.search(r":v?\d+(\.\d+)+$", service["image"]), name
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (OTEL / source).exists() if source.startswith(".") else source in compose["volumes"], volume
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name


def test_compose_asks_for_the_key_and_says_how_to_make_it() -> None:
    compose = read("compose.yaml")
    key = compose["services"]["server"]["environment"]["SECRETS_KEY"]
    assert key.startswith("${SECRETS_KEY:?")
    [making] = re.findall(r'python -c "(.*)"', (ROOT / "docs/settings.md").read_text())
    assert f"python -c '{making}'" in key


def test_the_image_has_all_it_needs_and_does_not_run_as_root() -> None:
    dockerfile = (OTEL / "Dockerfile").read_text()
    copied = re.findall(r"^COPY (?!--)(.*) \S+$", dockerfile, re.MULTILINE)
    sources = {source for line in copied for source in line.split()}
    shown = re.findall(r"^!(.*)$", (OTEL / "Dockerfile.dockerignore").read_text(), re.MULTILINE)
    assert sources == set(shown)
    assert all((ROOT / source).exists() for source in sources)
    wheel = msgspec.toml.decode((ROOT / "pyproject.toml").read_bytes())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert set(wheel["packages"]) <= sources
    assert re.search(r"^USER \d+$", dockerfile, re.MULTILINE)
    assert "pip install --require-hashes -r requirements.txt" in dockerfile
