"""`GET /topics/{name}/history`: the events of a topic's history, and long polls for the next."""

from http import HTTPStatus

from aiohttp import web

from handlers.answers import answer, answer_json, refuse
from handlers.keys import SERVICE
from handlers.requests import caller, query_fields
from handlers.topics import topic_in_path
from hub.brokers.history import History
from hub.errors import Refusal
from hub.protocol.http_requests import decode_history_query
from hub.protocol.replies import encode_history


async def read_history(request: web.Request) -> web.Response:
    """Answer with events in order, or the newest first, and the topic's position."""
    query = decode_history_query(dict(query_fields(request)))
    if isinstance(query, Refusal):
        return refuse(query)
    service, who = request.app[SERVICE], caller(request)
    topic = topic_in_path(request).removesuffix("/history")
    position = query.since
    # In reverse order the events before the position are asked for.
    history = await service.history(who, topic, None if query.reverse else position)
    if query.wait and isinstance(history, History):
        position = position or history.position  # without a position, wait for events from now on
        history = await service.next_history(
            who,
            topic,
            position,
            seconds=query.wait,
            connected=lambda: request.transport is not None,
        )
    if isinstance(history, Refusal):
        return refuse(history)
    if position is not None and not history.covers(position):
        text = (
            "Events after this position are no longer in the history: "
            "start again from the position in this answer"
        )
        return answer({"error": text, **history.position._asdict()}, HTTPStatus.GONE)
    events = history.page(position.offset if position else None, query.limit, query.reverse)
    return answer_json(encode_history(topic, history.position, events))
