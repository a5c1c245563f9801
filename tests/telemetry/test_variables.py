"""Each OTEL_* value that has an effect is checked before anything starts; the SDK sees no other."""

import re
from pathlib import Path

import pytest

from app.dev import waterfall
from otel import export, otlp_target, variables
from tests import ROOT
from tests.support.certificates import Authority

PAGE = (ROOT / "docs/tracing.md").read_text()
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
HTTP = {ENDPOINT: "http://localhost:4318", "OTEL_LOGS_EXPORTER": "otlp"}
GRPC = {**HTTP, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}


def said_of(environ: dict[str, str]) -> str:
    """Return the line that refuses `environ`."""
    with pytest.raises(variables.WrongTelemetryError) as wrong:
        variables.check(environ)
    return str(wrong.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_SDK_DISABLED", "yes"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "carrier pigeon"),
        ("OTEL_TRACES_EXPORTER", "zipkin"),
        ("OTEL_METRICS_EXPORTER", "prometheus"),
        ("OTEL_LOGS_EXPORTER", "console"),
        ("OTEL_TRACES_SAMPLER", "sometimes"),
        ("OTEL_TRACES_SAMPLER_ARG", "a tenth"),
        ("OTEL_TRACES_SAMPLER_ARG", "1.5"),
        ("OTEL_TRACES_SAMPLER_ARG", "nan"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "many"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "99999999999999999999"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "16385"),
        ("OTEL_BSP_SCHEDULE_DELAY", "5s"),
        ("OTEL_BLRP_SCHEDULE_DELAY", "-1"),
        ("OTEL_BLRP_MAX_QUEUE_SIZE", "0"),
        ("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", "2049"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "0"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10000"),
        ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "0"),
        ("OTEL_EXPORTER_OTLP_LOGS_TIMEOUT", "inf"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd"),
        ("OTEL_EXPORTER_OTLP_METRICS_COMPRESSION", "zstd"),
        ("OTEL_EXPORTER_OTLP_INSECURE", "1"),
        ("OTEL_EXPORTER_OTLP_LOGS_INSECURE", "no"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/absent.pem"),
        ("OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE", __file__),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", __file__),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name"),
        ("OTEL_RESOURCE_ATTRIBUTES", "a=1,=2"),
        ("OTEL_RESOURCE_ATTRIBUTES", "a=100%"),
        ("OTEL_RESOURCE_ATTRIBUTES", "a=%ff"),
        ("OTEL_RESOURCE_ATTRIBUTES", '"a=1"'),
        ("OTEL_SERVICE_NAME", '"tickets"'),
        ("OTEL_SERVICE_NAME", "\udcff"),
        ("OTEL_EXPERIMENTAL_RESOURCE_DETECTORS", "process,absent"),
    ],
)
@pytest.mark.parametrize("endpoint", [HTTP, GRPC], ids=["http", "grpc"])
def test_a_wrong_value_is_one_line_with_its_name(endpoint: dict[str, str], name: str, value: str) -> None:
    said = said_of({**endpoint, name: value})
    assert re.fullmatch(rf"{name} is wrong: it must be .+", said)


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({**GRPC, "OTEL_EXPORTER_OTLP_COMPRESSION": "deflate"}, "OTEL_EXPORTER_OTLP_COMPRESSION"),
        ({**HTTP, ENDPOINT: "collector:4318"}, ENDPOINT),
        ({**HTTP, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc", ENDPOINT: "collector:4318"}, ENDPOINT),
        ({**HTTP, "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "collector"}, "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT"),
        ({**HTTP, ENDPOINT: "http://collector:4318/?tenant=7"}, ENDPOINT),
        ({**GRPC, ENDPOINT: "http://me:hunter2@collector:4317"}, ENDPOINT),
        ({**GRPC, ENDPOINT: "collector:4317/v1/traces"}, ENDPOINT),
        ({**GRPC, "OTEL_EXPORTER_OTLP_HEADERS": "token-bin=hunter2"}, "OTEL_EXPORTER_OTLP_HEADERS"),
        ({**GRPC, "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "a|b=hunter2"}, "OTEL_EXPORTER_OTLP_TRACES_HEADERS"),
    ],
)
def test_a_value_is_wrong_if_its_protocol_does_not_take_it(environ: dict[str, str], name: str) -> None:
    said = said_of(environ)
    assert re.fullmatch(rf"{name} is wrong: it must be .+", said)
    assert "hunter2" not in said


@pytest.mark.parametrize(
    "address",
    ["grpc://collector:4317", "unix:/run/otlp.sock", "unix:///run/otlp.sock", "dns:///collector:4317", "http:collector", "HTTP://collector:4318",
     "http://collector:65536", "http://collector:0", "http://collector:x", "http://the collector:4318", "http://",
     "http://[::1:4318", "http://[collector]:4318", "::1", '"http://collector:4318"', "http://collector:4318#traces"],
)  # fmt: skip
@pytest.mark.parametrize("endpoint", [HTTP, GRPC], ids=["http", "grpc"])
def test_no_protocol_takes_these_endpoints(endpoint: dict[str, str], address: str) -> None:
    """They would fail with the first webhook, or at each export."""
    for name in (ENDPOINT, "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"):
        assert re.fullmatch(rf"{name} is wrong: it must be a URL like .+", said_of({**endpoint, name: address}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization Bearer hunter2"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=b,hunter2"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=hunter2%E2%82%AC"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "authorization=Bearer hunter2%0A"),
        ("OTEL_EXPORTER_OTLP_METRICS_HEADERS", 'authorization="hunter2"'),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "me:hunter2@collector:4318"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://me:hunter2/x@collector:4318"),
        ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http://me:x@hunter2@collector:4318"),
    ],
)
def test_a_token_that_cannot_be_read_is_not_shown(name: str, value: str) -> None:
    """The exporters would log the whole value."""
    said = said_of({name: value})
    assert re.fullmatch(rf"{name} is wrong: it must be .+", said)
    assert "hunter2" not in said


@pytest.mark.parametrize(
    "environ",
    [
        {"OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer a%20token=,x-tenant = 7 ,"},
        {"OTEL_EXPORTER_OTLP_HEADERS": "Authorization=Basic dXNlcjpwYXNz, api-key=a/b+c"},
        {ENDPOINT: "https://me:pass%40word@collector/otlp"},
        {ENDPOINT: "collector:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
        {ENDPOINT: "[::1]:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "GRPC"},
        {ENDPOINT: "http://[::1]:4318"},
        {ENDPOINT: " http://collector:4318/ "},
        {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces?tenant=7"},
        {ENDPOINT: "collector:4317", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc", "OTEL_METRICS_EXPORTER": "none"},
        {"OTEL_EXPORTER_OTLP_COMPRESSION": "deflate", "OTEL_EXPORTER_OTLP_LOGS_PROTOCOL": "grpc"},
        {"OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=a%2Cb, ,team=é=1,"},
        {"OTEL_TRACES_SAMPLER": "ParentBased_TraceIdRatio", "OTEL_TRACES_SAMPLER_ARG": "0.1"},
        {"OTEL_EXPORTER_OTLP_TIMEOUT": "2.5"},
        {"OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "process, os"},
        dict.fromkeys(variables.HONOURED.keys() - {ENDPOINT}, " \n"),
        dict.fromkeys(variables.HONOURED.keys() - {ENDPOINT}, ""),
    ],
)
def test_values_that_the_specification_accepts_are_accepted(environ: dict[str, str]) -> None:
    assert variables.check({ENDPOINT: "http://localhost:4318", **environ})


def test_where_the_sdk_is_disabled_nothing_else_is_looked_at() -> None:
    assert variables.check({**HTTP, "OTEL_SDK_DISABLED": " TRUE", "OTEL_TRACES_SAMPLER": "sometimes"}) == []


@pytest.mark.parametrize("of", ["", "TRACES_"])
def test_files_of_tls_belong_together(tmp_path: Path, of: str) -> None:
    """A key alone would be ignored; a wrong one would fail at each export."""
    authority = Authority(tmp_path)
    certificate, other = authority.sign("ours", "localhost"), authority.sign("other", "localhost")
    locked = authority.sign("locked", "localhost", "a passphrase").with_suffix(".key")
    prefix = f"OTEL_EXPORTER_OTLP_{of}"
    key = {f"{prefix}CLIENT_KEY": str(certificate.with_suffix(".key"))}
    shown = {**key, f"{prefix}CLIENT_CERTIFICATE": str(certificate)}
    for endpoint in (HTTP, GRPC):
        assert variables.check({**endpoint, **shown})
    both = tmp_path / "both.pem"
    both.write_bytes(certificate.read_bytes() + certificate.with_suffix(".key").read_bytes())
    assert variables.check({**HTTP, f"{prefix}CLIENT_CERTIFICATE": str(both)})
    together = "is wrong: it must be set together with "
    assert said_of({**HTTP, **key}).startswith(f"{prefix}CLIENT_KEY {together}OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE")
    alone = {f"{prefix}CLIENT_CERTIFICATE": str(certificate)}
    assert said_of({**GRPC, **alone}).startswith(f"{prefix}CLIENT_CERTIFICATE {together}OTEL_EXPORTER_OTLP_CLIENT_KEY")
    for wrong in (other.with_suffix(".key"), locked):
        said = said_of({**HTTP, **shown, f"{prefix}CLIENT_KEY": str(wrong)})
        assert said.startswith(f"{prefix}CLIENT_KEY is wrong: it must be the private key, without a passphrase, ")


def test_nothing_stays_in_the_environment_but_what_is_honoured() -> None:
    """Nor empty values and entries; and the SDK would warn of a share that is not given."""
    environ = {
        ENDPOINT: " collector:4317 ", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_TIMEOUT": "",
        "OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": " ", "OTEL_RESOURCE_ATTRIBUTES": "a=1, ,b=2,",
        "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "few", "OTEL_PYTHON_METER_PROVIDER": "absent", "PATH": "/bin",
    }  # fmt: skip
    assert variables.settle(environ) == ["TRACES", "METRICS"]
    assert environ == {
        ENDPOINT: "collector:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_TRACES_SAMPLER": "traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": "1", "OTEL_RESOURCE_ATTRIBUTES": "a=1,b=2", "PATH": "/bin",
    }  # fmt: skip
    assert variables.settle(environ) == ["TRACES", "METRICS"]


def test_the_receiver_of_dev_takes_spans_whatever_is_set() -> None:
    with waterfall.receiving() as receiver:
        environ = {"OTEL_EXPORTER_OTLP_COMPRESSION": "gzip", **receiver.environment}
    assert otlp_target.target("TRACES", environ).compression == "none"


def test_variables_without_effect_are_named_once(caplog: pytest.LogCaptureFixture) -> None:
    """A misspelled one would be silent."""
    export.configure(
        "x", {"OTEL_EXPORTER_OTLP_ENDPIONT": "http://me:hunter2@c", "OTEL_PROPAGATORS": "b3", "OTEL_X": " "}
    )
    [record] = [one for one in caplog.records if one.msg == "setting_ignored"]
    fields = vars(record)["fields"]
    assert fields == {"error": "OTEL_EXPORTER_OTLP_ENDPIONT, OTEL_PROPAGATORS: without effect here"}


def test_the_page_lists_each_variable_that_is_honoured() -> None:
    """Those of one signal are one sentence."""
    section = PAGE.partition("## 3. Turn it on")[2].partition("\n## ")[0]
    rows = "".join(line.split("|")[1] for line in section.splitlines() if line.startswith("| `OTEL_"))
    of_signals = {
        f"OTEL_EXPORTER_OTLP_{signal}_{option}" for signal in variables.SIGNALS for option in variables.OPTIONS
    }
    assert set(re.findall("OTEL_[A-Z_]+", rows)) == variables.HONOURED.keys() - of_signals
