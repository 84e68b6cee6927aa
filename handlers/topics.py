"""`/topics`: list, create and delete topics."""

from functools import partial
from http import HTTPStatus
from urllib.parse import unquote

from aiohttp import web

from handlers.answers import answer, degraded, outcome_of, raise_refusal, read_body, refuse
from handlers.keys import SERVICE, SETTINGS
from handlers.requests import caller, query_fields
from hub.access import Verb
from hub.errors import Refusal
from hub.protocol.http_requests import decode_create
from hub.protocol.list_requests import decode_topic_query
from hub.values import Json


async def list_topics(request: web.Request) -> web.Response:
    """Answer with a page of topics and their numbers of subscribers, on all nodes."""
    query = decode_topic_query(query_fields(request))
    if isinstance(query, Refusal):
        return refuse(query)
    page, cluster = await request.app[SERVICE].topics(caller(request), query)
    fields: dict[str, Json] = {"count": page.total, "topics": page.topics}
    if page.next:
        fields["next"] = page.next
    return answer({**fields, **degraded(cluster)})


async def create_topic(request: web.Request) -> web.Response:
    """Create a topic that exists until it is deleted."""
    service, who = request.app[SERVICE], caller(request)
    raise_refusal(service.check_any(who, Verb.MANAGE))
    topic = decode_create(await read_body(request), request.app[SETTINGS].max_topic_bytes)
    if isinstance(topic, Refusal):
        return refuse(topic)
    refusal = await outcome_of(partial(service.create, who, topic))
    if refusal is not None:
        return refuse(refusal)
    return answer({"status": "created", "topic": topic}, HTTPStatus.CREATED)


async def delete_topic(request: web.Request) -> web.Response:
    """Delete a topic, created or automatic; its subscribers are notified and stay connected."""
    topic = topic_in_path(request)
    refusal = await outcome_of(partial(request.app[SERVICE].delete, caller(request), topic))
    if refusal is not None:
        return refuse(refusal)
    return answer({"status": "deleted", "topic": topic})


def topic_in_path(request: web.Request) -> str:
    """Return the path after `/topics/`, decoded once.

    aiohttp's own decoding does not distinguish encoded slashes.

    Raises:
        HTTPBadRequest: the topic is not UTF-8.
    """
    raw = request.rel_url.raw_path.removeprefix("/topics/")
    try:
        return unquote(raw, errors="strict")
    except UnicodeDecodeError:
        raise web.HTTPBadRequest(text="The topic in the path is not UTF-8") from None
