"""What a net costs and does: energy, latency, utilisation and activity as JSON, text and HTML."""

from ttfsc.backends.report.build import build
from ttfsc.backends.report.measure import LayerCounts, Measurement, Meter, measure
from ttfsc.backends.report.model import NOT_VERIFIED, Compared, Provenance, Report, Verification
from ttfsc.backends.report.report import emit, from_json, read_json, schema
from ttfsc.backends.report.text import summary_of, text_of

__all__ = [
    "NOT_VERIFIED",
    "Compared",
    "LayerCounts",
    "Measurement",
    "Meter",
    "Provenance",
    "Report",
    "Verification",
    "build",
    "emit",
    "from_json",
    "measure",
    "read_json",
    "schema",
    "summary_of",
    "text_of",
]
