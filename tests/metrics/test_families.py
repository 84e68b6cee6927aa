"""Metrics as plain data: what comes back is what was sent."""

import orjson
import pytest
from aiohttp import web
from prometheus_client import generate_latest

from handlers.families import PlainFamilies, to_plain
from handlers.keys import REGISTRY
from handlers.metrics import group_metrics
from hub.settings import Settings
from hub.values import Json
from server import build_app


async def test_all_families_come_back_as_they_were() -> None:
    registry = build_app(Settings())[REGISTRY]
    plain = orjson.loads(orjson.dumps(to_plain(registry)))
    once = PlainFamilies(plain)
    assert generate_latest(once) == generate_latest(PlainFamilies(to_plain(once)))
    assert [(it.name, it.type) for it in once.collect()] == [
        (it.name, it.type) for it in registry.collect()
    ]


async def test_without_an_answer_of_the_parent_there_are_no_metrics() -> None:
    async def nothing() -> Json:
        return None

    with pytest.raises(web.HTTPServiceUnavailable):
        await group_metrics(nothing)
