"""`POST /publish`: a message from anybody who can make an HTTP request."""

from functools import partial

from aiohttp import web

from handlers.answers import answer, completion, read_body, refuse
from handlers.keys import HUB, SETTINGS
from hub.errors import Refusal
from hub.inbound import Json, decode_rest_publish


async def publish(request: web.Request) -> web.Response:
    """Publish the body's `payload` to its `topic`, for every subscriber."""
    hub = request.app[HUB]
    message = decode_rest_publish(await read_body(request), request.app[SETTINGS].max_topic_bytes)
    if isinstance(message, Refusal):
        return refuse(message)
    message_id = hub.stamps.new_id()
    receivers = hub.subscribers(message.topic)
    outcome = await completion(partial(hub.publish, message.topic, message_id, message.payload))
    if isinstance(outcome, Refusal):
        return refuse(outcome)
    fields: dict[str, Json] = {
        "status": "published",
        "id": message_id,
        "topic": message.topic,
        "receivers": receivers,
    }
    if outcome.nodes is not None:
        fields["nodes"] = outcome.nodes
    if outcome.degraded:
        fields["degraded"] = True
    return answer(fields)
