# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a job tells Prometheus: a file for the node exporter's textfile collector, whole or not there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from . import _deps
from .files import write_atomic


@dataclass(frozen=True)
class Gauge:
    """One metric with its samples: each a value and the labels that it has.

    All samples of a gauge have the same label names.
    """

    name: str
    help: str
    samples: tuple[tuple[Mapping[str, str], float], ...]


def publish(directory: Path, job: str, gauges: Iterable[Gauge]) -> Path:
    """Write ``<directory>/pharma_<job>.prom``, readable for the exporter; returns its path.

    :raises OpsError: ``FILE_NOT_WRITTEN``, ``LIBRARY_MISSING``.
    """
    path = directory / f"pharma_{job}.prom"
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    write_atomic(path, text(gauges), mode=0o644)
    return path


def text(gauges: Iterable[Gauge]) -> bytes:
    """The gauges in Prometheus's text format."""
    client = _deps.load("prometheus_client")
    registry = client.CollectorRegistry()
    for gauge in gauges:
        if not gauge.samples:
            continue
        names = tuple(sorted(gauge.samples[0][0]))
        metric = client.Gauge(gauge.name, gauge.help, names, registry=registry)
        for labels, value in gauge.samples:
            (metric.labels(**labels) if names else metric).set(value)
    encoded: bytes = client.generate_latest(registry)
    return encoded
