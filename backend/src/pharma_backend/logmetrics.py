# SPDX-License-Identifier: GPL-3.0-or-later
"""The log's own counts as metrics, read when they are asked for: a line pays nothing for them."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from . import log


class LogLines(Collector):
    """``pharma_log_lines_total{level}`` and ``pharma_log_write_errors_total``."""

    def collect(self) -> Iterator[Metric]:
        """The counts since the process began."""
        lines, lost = log.counts()
        written = CounterMetricFamily("pharma_log_lines", "Log lines by level", labels=["level"])
        for level, count in lines.items():
            written.add_metric([level], count)
        yield written
        errors = "Log lines that could not be rendered or written"
        yield CounterMetricFamily("pharma_log_write_errors", errors, value=lost)
