"""The metrics of a server, as a scrape finds them."""

from aiohttp import ClientSession
from prometheus_client.parser import text_string_to_metric_families

from handlers.keys import REGISTRY
from tests.support.server import Running

Labels = frozenset[tuple[str, str]]
Figures = dict[tuple[str, Labels], float]  # by name and labels


def figure(server: Running, name: str, **labels: str) -> float:
    """Return the value of a metric, whose name is given without `broadcast_`."""
    return named_as(server, f"broadcast_{name}", **labels)


def named_as(server: Running, name: str, **labels: str) -> float:
    """Return the value of a metric by its whole name."""
    value = server.runner.app[REGISTRY].get_sample_value(name, labels)
    assert value is not None, f"there is no {name} {labels}"
    return value


async def scrape(session: ClientSession, url: str) -> Figures:
    """Return all samples of `/metrics`."""
    async with session.get(f"{url}/metrics") as answer:
        assert answer.status == 200
        text = await answer.text()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def named(figures: Figures, name: str, **labels: str) -> float:
    """Return one of the samples of a scrape, whose name is given without `broadcast_`."""
    return figures[f"broadcast_{name}", frozenset(labels.items())]
