"""Callers and their rights."""

from enum import StrEnum
from typing import NamedTuple

from hub.errors import Refusal


class Verb(StrEnum):
    """What a caller wants to do with a topic."""

    SUBSCRIBE = "subscribe"  # reading the history included
    PUBLISH = "publish"
    MANAGE = "manage"  # creating and deleting it included


class Principal(NamedTuple):
    """Who makes a command, a request or a stream."""

    subject: str = ""  # empty for a caller that did not say who it is


ANONYMOUS = Principal()


class Access:
    """Decides what a principal may do. Every caller may do everything."""

    def check(self, principal: Principal, verb: Verb, topic: str) -> Refusal | None:
        """Return the refusal of a principal that lacks a right; None if it has it."""
        return None
