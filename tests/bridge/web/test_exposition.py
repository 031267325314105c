"""The text for Prometheus is read by Prometheus' own parsers, in both forms, and says the same."""

from __future__ import annotations

import re

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from bridge.web import catalogue
from bridge.web.exposition import Metric, Sample, render

ODD = 'a "name" with \\ and\na second line, and ü'
COUNTER = Metric("jobs", "counter", "What was done\nand how", ("name", "result"))
GAUGE = Metric("size_bytes", "gauge", "How large \\ it is")
INFO = Metric("build", "info", "The version", ("version",))
EMPTY = Metric("nothing", "gauge", "No sample", ("x",))
FAMILIES: list[tuple[Metric, list[Sample]]] = [
    (COUNTER, [((ODD, "completed"), 3), (("b", "failed"), 0)]),
    (GAUGE, [((), 1.5e300)]),
    (INFO, [(("1.0",), 1)]),
    (EMPTY, []),
]


@pytest.mark.parametrize(("openmetrics", "read"), [(True, read_openmetrics), (False, read_text)])
def test_both_forms_are_read_as_they_were_meant(openmetrics: bool, read: object) -> None:
    found = list(read(render(FAMILIES, openmetrics)))  # type: ignore[operator]
    samples = {(s.name, tuple(s.labels.values())): s.value for family in found for s in family.samples}
    assert samples == {
        ("jobs_total", (ODD, "completed")): 3,
        ("jobs_total", ("b", "failed")): 0,
        ("size_bytes", ()): 1.5e300,
        ("build_info", ("1.0",)): 1,
    }
    assert [family.type for family in found] == ["counter", "gauge", "info" if openmetrics else "gauge"]


def test_a_name_with_a_line_in_it_adds_no_line() -> None:
    assert sum("jobs_total{" in line for line in render(FAMILIES, True).splitlines()) == 2


def test_names_are_those_that_prometheus_advises() -> None:
    names = [one.name for one in catalogue.ALL]
    assert len(set(names)) == len(names)
    for one in catalogue.ALL:
        assert re.fullmatch(r"(mesbridge|process)_[a-z][a-z0-9_]*", one.name)
        assert not one.name.endswith(("_total", "_info", "_count", "_sum"))  # the kind brings the ending
        assert all(re.fullmatch(r"[a-z][a-z0-9_]*", label) for label in one.labels)
        assert one.text
