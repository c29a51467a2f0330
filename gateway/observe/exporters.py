"""The exporters of spans that the standard OTEL_* variables ask for."""

from collections.abc import Callable, Mapping
from urllib.parse import urlsplit


def exporters_of(environ: Mapping[str, str], find: Callable[[str], object]) -> tuple[str, ...]:
    """The exporters that the standard variables name, of `otlp` and `console`; none: no spans are made.

    `find` gives a module's spec, or None where it is not installed. Raises ValueError where spans are asked for and
    cannot be made. OpenTelemetry reads all further settings itself.
    """
    endpoint, protocol = (
        environ.get(f"OTEL_EXPORTER_OTLP_TRACES_{word}") or environ.get(f"OTEL_EXPORTER_OTLP_{word}") or ""
        for word in ("ENDPOINT", "PROTOCOL")
    )
    # The standard exports by default; here exporting must be asked for.
    value = environ.get("OTEL_TRACES_EXPORTER") or ("otlp" if endpoint else "none")
    names = {name.strip() for name in value.split(",")}
    if names == {"none"} or environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return ()
    if not names <= {"otlp", "console"}:
        raise ValueError(f"OTEL_TRACES_EXPORTER must be otlp, console or none, not {value}")
    if "otlp" in names and protocol not in {"", "http/protobuf"}:
        raise ValueError(f"OTEL_EXPORTER_OTLP_PROTOCOL must be http/protobuf (as a rule port 4318), not {protocol}")
    if "otlp" in names and endpoint and not endpoint.startswith(("http://", "https://")):
        raise ValueError("OTEL_EXPORTER_OTLP_ENDPOINT must begin with http:// or https://")
    if not (find("opentelemetry") and find("opentelemetry.sdk")):
        raise ValueError("OTEL_* asks for spans, but their extra is not installed: pip install '.[otel]'")
    return tuple(sorted(names))


def doubt_of(environ: Mapping[str, str]) -> str:
    """A probable mistake in the destination of spans, which is used all the same; empty if there is none."""
    names = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    name = next((name for name in names if environ.get(name)), None)
    if name is None or not urlsplit(environ[name]).netloc.endswith(":4317"):
        return ""
    return f"{name} names port 4317, where collectors take gRPC; spans go by HTTP, as a rule to port 4318"
