"""Stream answers to many viewers, token by token. The model is a fake: a generator of words.

Shows: one topic for each answer, whose history is the answer so far. So a viewer that comes late,
or whose connection is cut in mid-answer, gets the whole answer, and each token once.
"""

import asyncio
import random
import uuid
from collections.abc import Iterator

from broadcast_client import Client, Event, connect

ANSWER = """I am not a language model, only a generator of words, so I cannot know. But see how they
arrive: each is a message of its own, and every viewer gets all of them, in order and once. Reload
this page in the middle, or cut its connection: the topic of this answer remembers what you miss."""


def model(question: str) -> Iterator[str]:
    """Return the tokens of an answer. Put your model here."""
    return (word + " " for word in f"You asked: “{question}” {ANSWER}".split())


async def answer(client: Client, question: str) -> None:
    """Announce an answer, and publish its tokens."""
    name = f"answers/{uuid.uuid4().hex[:8]}"
    topic = client.subscribe(name, lambda _: None)  # a topic exists while it has a subscriber
    await topic.ready()
    await client.publish("answers", {"topic": name, "question": question})
    for number, token in enumerate(model(question)):
        # The key makes sure that a token which is sent again is published once.
        await client.publish(name, {"token": token}, key=f"{name}/{number}")
        await asyncio.sleep(random.uniform(0.02, 0.12))  # a model thinks
    await client.publish(name, {"end": True})
    topic.close()


async def main() -> None:
    """Answer each question, one after another."""
    async with connect("ws://localhost:8080/ws") as client:
        client.subscribe("answers", lambda _: None)
        async for item in client.subscribe("questions"):
            if isinstance(item, Event):
                await answer(client, str(item.payload)[:200])


if __name__ == "__main__":
    asyncio.run(main())
