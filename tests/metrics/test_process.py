"""The kernel's figures of the process, compared with those of prometheus_client."""

import os

import pytest
from prometheus_client import ProcessCollector

from handlers.process import process_figures
from tests.support.metrics import named_as
from tests.support.server import Running


async def test_the_metrics_of_the_process_are_those_of_other_clients(server: Running) -> None:
    families = list(ProcessCollector(registry=None).collect())
    assert len(families) == 6
    for family in families:
        for sample in family.samples:
            assert named_as(server, sample.name) == pytest.approx(sample.value, rel=0.05, abs=1)


def test_all_descriptors_are_counted() -> None:
    figures = process_figures()
    assert figures is not None
    assert figures.open_descriptors == len(os.listdir("/proc/self/fd")) - 1  # that of the list
