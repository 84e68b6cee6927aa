"""`POST /publish` and `/publish/batch`: publish to a topic, to several topics, or a batch."""

import asyncio
from collections.abc import Iterator
from itertools import islice
from typing import Final, NamedTuple

from aiohttp import web

from handlers.answers import answer, awaitable, raise_refusal, read_body, refuse, unavailable
from handlers.keys import BODY_BUDGET, HUB, SERVICE, SETTINGS
from handlers.requests import caller, counted_as, request_fields
from hub.access import Principal, Verb
from hub.brokers.base import PublishDone, PublishResult
from hub.delivery.pacing import LIMIT, NODES_RATE, PART_BYTES, PART_ITEMS
from hub.errors import ACCESS_CODES, ErrorCode, Refusal, RequestRefusal
from hub.logs import events
from hub.protocol.commands import Publish
from hub.protocol.http_requests import MAX_BATCH_BYTES, PublishItems, decode_batch, decode_publish
from hub.protocol.validation import check_idempotency_key
from hub.reports import Limit
from hub.service import Service
from hub.values import Json

_SLICE: Final = 100  # items of a batch that are decoded in one tick


async def publish(request: web.Request) -> web.Response:
    """Publish the body's `payload` to its `topic`, or to each of its `topics`."""
    service, who = request.app[SERVICE], caller(request)
    raise_refusal(service.check_any(who, Verb.PUBLISH))
    body = await read_body(request)
    message = decode_publish(body, request.app[SETTINGS].max_topic_bytes)
    if isinstance(message, Refusal):
        return refuse(message)
    header = request.headers.get("Idempotency-Key")
    if header is not None:
        wrong = check_idempotency_key(header)
        if wrong:
            return refuse(Refusal(ErrorCode.INVALID_MESSAGE, wrong))
        message = _keyed(message, header)
    if isinstance(message, list):
        return await _publish_all(request, message)
    outcome = await _outcome(service, _start(service, who, message))
    return refuse(outcome) if isinstance(outcome, Refusal) else answer(outcome)


async def publish_batch(request: web.Request) -> web.Response:
    """Publish the body's `items`; an item that cannot be published does not stop the others."""
    app, settings = request.app, request.app[SETTINGS]
    raise_refusal(app[SERVICE].check_any(caller(request), Verb.PUBLISH))
    size = MAX_BATCH_BYTES if request.content_length is None else request.content_length
    # Bodies up to the size of a message are not counted. One that is too large for a batch is not
    # either, since it is refused unread.
    counted = size if settings.max_message_bytes < size <= MAX_BATCH_BYTES else 0
    with app[BODY_BUDGET].reserve(counted_as(request), counted) as reserved:
        if not reserved:
            app[HUB].observer.limited(Limit.LARGE_BATCHES)
            raise unavailable("Too many large batches are under way", RequestRefusal.BUSY)
        body = await read_body(request)
        items = decode_batch(body, settings.max_topic_bytes, settings.max_message_bytes)
        if isinstance(items, Refusal):
            return refuse(items)
        return await _publish_all(request, await _in_slices(items))


async def _in_slices(items: Iterator[Publish | Refusal]) -> PublishItems:
    """Return all items of a batch, decoded in slices: those of 4 MB take 30 ms in all."""
    parts: PublishItems = []
    while True:
        await asyncio.sleep(0)
        some = list(islice(items, _SLICE))
        if not some:
            return parts
        parts += some


def _keyed(message: Publish | PublishItems, key: str) -> Publish | PublishItems:
    """Return the message, or messages, with the header's key if they have none of their own."""
    if isinstance(message, list):
        return [it if isinstance(it, Refusal) or it.key else it._replace(key=key) for it in message]
    return message if message.key else message._replace(key=key)


async def _publish_all(request: web.Request, items: PublishItems) -> web.Response:
    """Publish all items in parts, and answer with a result or an error for each, in order."""
    service = request.app[SERVICE]
    results: list[dict[str, Json]] = []
    deadline = asyncio.get_running_loop().time() + LIMIT
    while len(results) < len(items):
        if results:
            await asyncio.sleep(0)  # 1,000 publishes take 50 ms
        part = items[len(results) : len(results) + PART_ITEMS]
        if results or len(part) < len(items):
            topics = {item.topic for item in part if isinstance(item, Publish)}
            await service.hub.pace(topics, deadline)
        published, size = await _publish_part(request, part)
        results += published
        if len(results) < len(items) and any(map(_is_for_others, published)):
            await asyncio.sleep(size / NODES_RATE)
    return answer({"results": results})


async def _publish_part(
    request: web.Request, items: PublishItems
) -> tuple[list[dict[str, Json]], int]:
    """Publish the first items, until their events have PART_BYTES bytes.

    Returns:
        A result or an error for each published item, and the size of their events in bytes.
    """
    service, who = request.app[SERVICE], caller(request)
    started: list[_Started | Refusal] = []
    size = 0
    # The caller may have been banned, or its token have ended, since the last part.
    ended = service.sessions.refusal(who)
    if ended is not None:
        items = [ended for _ in items]
    for item in items:
        if isinstance(item, Refusal):
            started.append(item)
        else:
            started.append(publishing := _start(service, who, item))
            size += publishing.size
        if size >= PART_BYTES:
            break
    results: list[dict[str, Json]] = []
    for it in started:
        outcome = it if isinstance(it, Refusal) else await _outcome(service, it)
        if isinstance(outcome, Refusal):
            service.hub.observer.refused(outcome.code)
            if outcome.code in ACCESS_CODES:
                reason, detail = outcome.code, outcome.text
                events.ITEM_REFUSED.log(**request_fields(request), reason=reason, detail=detail)
            outcome = {"error": outcome.text}
        results.append(outcome)
    return results, size


def _is_for_others(published: dict[str, Json]) -> bool:
    """Return whether other nodes got an event: `nodes` counts this node if it has subscribers."""
    here = 1 if published.get("receivers") else 0
    return bool(published.get("nodes", 0) > here)


class _Started(NamedTuple):
    """A publish that has no outcome yet."""

    answer: dict[str, Json]  # the fields of the answer if it succeeds
    outcome: asyncio.Future[PublishResult | Refusal]
    size: int  # bytes of the event


def _start(service: Service, who: Principal, message: Publish) -> _Started:
    message_id = service.hub.ids.new_id()
    fields: dict[str, Json] = {
        "status": "published",
        "id": message_id,
        "topic": message.topic,
        "receivers": service.hub.subscriber_count(message.topic),
    }
    published: asyncio.Future[PublishResult | Refusal]
    done: PublishDone
    published, done = awaitable()
    size = service.publish(who, message.topic, message_id, message.payload, done, key=message.key)
    return _Started(fields, published, size)


async def _outcome(service: Service, started: _Started) -> dict[str, Json] | Refusal:
    outcome = await started.outcome
    if isinstance(outcome, Refusal):
        return outcome
    service.hub.published.rest += 1
    if outcome.first is not None:
        started.answer["id"] = outcome.first.message_id
        started.answer["receivers"] = outcome.first.receivers
        started.answer["duplicate"] = True
    if outcome.position is not None:
        started.answer.update(outcome.position._asdict())
    if outcome.nodes is not None:
        started.answer["nodes"] = outcome.nodes
    if outcome.degraded:
        started.answer["degraded"] = True
    return started.answer
