"""Figures as text that Prometheus reads. In: metrics and their samples. Out: OpenMetrics 1.0, or Prometheus' own
text format 0.0.4, which differ in how a counter and an info are headed and in the last line.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
TEXT = "text/plain; version=0.0.4; charset=utf-8"
_ESCAPED = str.maketrans({"\\": "\\\\", "\n": "\\n", '"': '\\"'})

Sample = tuple[tuple[str, ...], float]
"""The values of a metric's labels, and its own value."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. `name` is without the ending that its kind brings: ``_total`` or ``_info``."""

    name: str
    kind: Literal["counter", "gauge", "info"]
    text: str
    labels: tuple[str, ...] = ()

    @property
    def sample_name(self) -> str:
        """What a query names."""
        return self.name + {"counter": "_total", "info": "_info", "gauge": ""}[self.kind]


def render(families: Iterable[tuple[Metric, Iterable[Sample]]], openmetrics: bool) -> str:
    """The text of all `families`; those without samples are left out."""
    lines: list[str] = []
    escaped: dict[str, str] = {}
    for metric, samples in families:
        told = list(_lines(metric, samples, escaped))
        if told:
            head = metric.name if openmetrics else metric.sample_name
            kind = "gauge" if metric.kind == "info" and not openmetrics else metric.kind
            lines += (f"# TYPE {head} {kind}", f"# HELP {head} {metric.text.translate(_ESCAPED)}", *told)
    if openmetrics:
        lines.append("# EOF")
    return "\n".join(lines) + "\n"


def _lines(metric: Metric, samples: Iterable[Sample], escaped: dict[str, str]) -> Iterator[str]:
    name = metric.sample_name
    form = ",".join(f'{label}="%s"' for label in metric.labels)
    for values, value in samples:
        if values:
            labels = form % tuple([escaped.get(text) or _escape(text, escaped) for text in values])
            yield f"{name}{{{labels}}} {value!r}"
        else:
            yield f"{name} {value!r}"


def _escape(text: str, escaped: dict[str, str]) -> str:
    """The text as it may stand in quotes; kept in `escaped`, since a machine's name stands in many lines."""
    known = escaped[text] = text.translate(_ESCAPED)
    return known
