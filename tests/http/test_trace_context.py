"""Request ids and W3C trace context (https://www.w3.org/TR/trace-context/)."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.http.trace_context import is_request_id, new_trace_id, new_traceparent, trace_id_of
from gateway.observe.exporters import doubt_of, exporters_of

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"


@pytest.mark.parametrize(
    "traceparent",
    [
        f"00-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-00",
        f"00-{TRACE}-{SPAN}-ff",  # flags that are not yet known
        f"00-{TRACE}-{'0' * 15}1-00",
        f"01-{TRACE}-{SPAN}-01",  # a later version with the same four fields
        f"cc-{TRACE}-{SPAN}-01",
        f"cc-{TRACE}-{SPAN}-01-",
        f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like",
        f"fe-{TRACE}-{SPAN}-01-.",
    ],
)
def test_a_valid_traceparent_gives_its_trace_id(traceparent: str) -> None:
    assert trace_id_of(traceparent.encode()) == TRACE


@pytest.mark.parametrize(
    "traceparent",
    [
        "",
        "00",
        TRACE,
        f"ff-{TRACE}-{SPAN}-01",  # a forbidden version
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}-01-more",  # version 00 has four fields
        f"00-{TRACE}-{SPAN}-01-",
        f"cc-{TRACE}-{SPAN}-01.more",  # no dash before what is new
        f"cc-{TRACE}-{SPAN}-011",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"00-{TRACE}0-{SPAN}-01",
        f"00-{TRACE}-{SPAN[:-1]}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",  # lower case only
        f"00-{TRACE}-{SPAN.upper()}-01",
        f"0A-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-0A",
        f"00_{TRACE}_{SPAN}_01",
        f" 00-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01\n",
        f"00-{TRACE}-{SPAN}-01, 00-{TRACE}-{SPAN}-01",
        f"cc-{TRACE}-{SPAN}-01-é",
    ],
)
def test_a_malformed_traceparent_gives_none(traceparent: str) -> None:
    assert trace_id_of(traceparent.encode()) is None


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1))
def test_what_is_made_is_valid_and_unsampled(trace: int, span: int) -> None:
    traceparent = new_traceparent(new_trace_id(trace), span)
    assert traceparent == b"00-%032x-%016x-00" % (trace, span)
    assert trace_id_of(traceparent) == new_trace_id(trace)


def test_ids_are_drawn_where_no_chance_is_given() -> None:
    ids = {new_trace_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(re.fullmatch("(?!0{32})[0-9a-f]{32}", one) for one in ids)
    assert new_traceparent(TRACE) != new_traceparent(TRACE)


@pytest.mark.parametrize("value", [b"a", b"A-b_c.9", b"." * 128, TRACE.encode()])
def test_a_request_id_of_the_client_may_be_kept(value: bytes) -> None:
    assert is_request_id(value)


@pytest.mark.parametrize(
    "value", [b"", b"a" * 129, b"a b", b"a,b", b"a\n", b"\xc3\xa9", b'"a"', b"<script>", b"a/b", b"a:b", b"a%20"]
)
def test_a_request_id_that_could_mean_more_than_itself_is_not_kept(value: bytes) -> None:
    assert not is_request_id(value)


def test_a_made_trace_id_is_a_good_request_id() -> None:
    assert is_request_id(new_trace_id().encode())


# -- whether spans are exported -----------------------------------------------------------------------------------

ENDPOINT, TRACES_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
PROTOCOL, TRACES_PROTOCOL = "OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"
URL = "http://collector:4318"


@pytest.mark.parametrize(
    ("environ", "exporters"),
    [
        ({}, ()),
        ({"OTEL_SERVICE_NAME": "edge", "OTEL_TRACES_SAMPLER": "always_on"}, ()),
        ({ENDPOINT: ""}, ()),
        ({ENDPOINT: URL}, ("otlp",)),
        ({TRACES_ENDPOINT: f"{URL}/v1/traces"}, ("otlp",)),
        ({ENDPOINT: URL, PROTOCOL: "http/protobuf"}, ("otlp",)),
        ({ENDPOINT: URL, PROTOCOL: "grpc", TRACES_PROTOCOL: "http/protobuf"}, ("otlp",)),
        ({ENDPOINT: URL, "OTEL_TRACES_EXPORTER": ""}, ("otlp",)),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, ("otlp",)),
        ({"OTEL_TRACES_EXPORTER": "otlp, console"}, ("console", "otlp")),
        ({"OTEL_TRACES_EXPORTER": "console", PROTOCOL: "grpc", ENDPOINT: "collector:4317"}, ("console",)),
        ({ENDPOINT: URL, "OTEL_TRACES_EXPORTER": "none"}, ()),
        ({ENDPOINT: URL, "OTEL_SDK_DISABLED": "True"}, ()),
        ({ENDPOINT: "collector:4317", "OTEL_SDK_DISABLED": "true"}, ()),
        ({ENDPOINT: URL, "OTEL_SDK_DISABLED": "false"}, ("otlp",)),
    ],
)
def test_spans_are_exported_where_the_standard_variables_ask_for_it(
    environ: dict[str, str], exporters: tuple[str, ...]
) -> None:
    assert exporters_of(environ, lambda name: name) == exporters


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({ENDPOINT: URL, PROTOCOL: "grpc"}, "http/protobuf"),
        ({ENDPOINT: URL, PROTOCOL: "http/protobuf", TRACES_PROTOCOL: "http/json"}, "http/protobuf"),
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER"),
        ({"OTEL_TRACES_EXPORTER": "otlp,none"}, "OTEL_TRACES_EXPORTER"),
        ({ENDPOINT: "collector:4318"}, "http://"),
    ],
)
def test_what_cannot_be_exported_to_is_said(environ: dict[str, str], says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        exporters_of(environ, lambda name: name)


@pytest.mark.parametrize("there", [set[str](), {"opentelemetry"}])
def test_an_extra_that_is_not_installed_is_said_only_where_it_is_needed(there: set[str]) -> None:
    def find(name: str) -> str | None:
        return name if name in there else None

    assert exporters_of({}, find) == ()
    with pytest.raises(ValueError, match="pip install"):
        exporters_of({ENDPOINT: URL}, find)


@pytest.mark.parametrize(
    ("environ", "names"),
    [
        ({}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317"}, "OTEL_EXPORTER_OTLP_ENDPOINT"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://4317.example.com/x:4317"}, ""),
        (
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318",
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://collector:4317/v1/traces",
            },
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        ),
    ],
)
def test_the_port_of_grpc_is_doubted(environ: dict[str, str], names: str) -> None:
    doubt = doubt_of(environ)
    assert doubt.startswith(names)
    assert bool(doubt) == bool(names)
