"""Callers and their rights: who may do what to which topics.

Pure. A right is a verb and a set of patterns. The patterns are those of MQTT (MQTT 5.0 section
4.7): a topic's name is split into levels, `+` is exactly one level, a last `#` is the level before
it and everything below. Patterns are compiled once for each caller. The topics that a caller was
allowed are remembered, so that the next check of the same topic is one lookup.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from hub.errors import ErrorCode, Refusal
from hub.values import Json

MAX_PATTERNS: Final = 100  # in a token or in a setting
SEPARATOR: Final = "/"  # between the levels of a topic's name, where no other is set
MAX_SUBJECT_BYTES: Final = 255  # of UTF-8
MAX_TIME: Final = 253_402_300_799  # seconds since the epoch: the end of the year 9999
LEEWAY: Final = 5  # seconds for which a token is accepted after its `exp`
_SUBJECT: Final = "{sub}"
# A subject with one of these, or with the separator, is not put into a pattern.
_SPECIAL: Final = frozenset("+#*{}")
_REMEMBERED: Final = 64  # topics of a principal that are remembered for a verb
_MAX_REMEMBERED: Final = 255  # characters of a topic; longer ones are checked each time


class Verb(StrEnum):
    """An action on a topic."""

    SUBSCRIBE = "subscribe"  # reading the history included
    PUBLISH = "publish"
    MANAGE = "manage"  # creating and deleting it included


class Pattern(NamedTuple):
    """A compiled pattern with a wildcard."""

    text: str  # as it was written
    levels: tuple[str | None, ...]  # None: any level
    deep: bool  # whether it ends with `#`

    def match(self, levels: list[str]) -> bool:
        """Return whether a topic with these levels matches."""
        wanted = self.levels
        if len(levels) < len(wanted) or (len(levels) > len(wanted) and not self.deep):
            return False
        for want, level in zip(wanted, levels, strict=False):
            if want is not None and want != level:
                return False
        return True


@dataclass(frozen=True, slots=True)
class Patterns:
    """A compiled set of patterns."""

    _exact: dict[str, str]  # patterns without wildcards as written, by the one topic of each
    _wild: tuple[Pattern, ...]  # the others
    _separator: str
    every: str = ""  # the pattern that matches every topic, `#` or `*`; empty if there is none

    def __bool__(self) -> bool:
        return bool(self.every or self._exact or self._wild)

    def __or__(self, other: "Patterns") -> "Patterns":
        """Return the patterns of both; those with wildcards must have the same separator."""
        return Patterns(
            self._exact | other._exact,
            tuple(dict.fromkeys((*self._wild, *other._wild))),
            (self if self._wild else other)._separator,
            self.every or other.every,
        )

    def __repr__(self) -> str:
        return f"<Patterns {', '.join(self.texts()) or 'none'}>"

    @property
    def cost(self) -> int:
        """The number of comparisons that `find` makes at most."""
        return 1 if self.every else 1 + len(self._wild)

    def find(self, topic: str) -> str | None:
        """Return a pattern that matches a topic, as it was written; None if there is none."""
        if self.every:
            return self.every
        exact = self._exact.get(topic)
        if exact is not None or not self._wild:
            return exact
        levels = topic.split(self._separator)
        return next((pattern.text for pattern in self._wild if pattern.match(levels)), None)

    def texts(self) -> list[str]:
        """Return the patterns as they were written."""
        every = [self.every] if self.every else []
        return [*every, *self._exact.values(), *(pattern.text for pattern in self._wild)]


def compile_patterns(
    texts: Iterable[str], separator: str = SEPARATOR, subject: str | None = None
) -> Patterns:
    """Compile patterns.

    Args:
        texts: the patterns.
        separator: one character, none of `+#{}*,`.
        subject: what `{sub}` stands for; None where no subject can be known.

    Raises:
        ValueError: a pattern is not valid, or there are more than MAX_PATTERNS; the exception's
            text names the pattern and the rule.
    """
    exact: dict[str, str] = {}
    wild: list[Pattern] = []
    every = ""
    for count, text in enumerate(texts):
        if count == MAX_PATTERNS:
            raise ValueError(f"at most {MAX_PATTERNS} patterns are allowed")
        if text in ("#", "*"):
            every = every or text
            continue
        levels = text.split(separator)
        _check_wildcards(text, levels)
        if _SUBJECT in text:
            if subject is None:
                raise ValueError(f"{text!r}: {_SUBJECT} has no meaning without a token")
            if separator in subject or not _SPECIAL.isdisjoint(subject):
                continue
            levels = [level.replace(_SUBJECT, subject) for level in levels]
        deep = levels[-1] == "#"
        if deep or "+" in levels:
            kept = levels[:-1] if deep else levels
            wild.append(Pattern(text, tuple(None if x == "+" else x for x in kept), deep))
        else:
            exact[separator.join(levels)] = text
    return Patterns(exact, tuple(wild), separator, every)


def _check_wildcards(text: str, levels: list[str]) -> None:
    for number, level in enumerate(levels, start=1):
        if "+" in level and level != "+":
            raise ValueError(f"{text!r}: '+' must be a whole level")
        if "#" in level and (level != "#" or number < len(levels)):
            raise ValueError(f"{text!r}: '#' must be the whole last level")


NOTHING: Final = Patterns({}, (), SEPARATOR)
EVERYTHING: Final = Patterns({}, (), SEPARATOR, "#")


class Rights(NamedTuple):
    """The topics that a caller may subscribe to, publish to and manage."""

    subscribe: Patterns = NOTHING
    publish: Patterns = NOTHING
    manage: Patterns = NOTHING

    def union(self, other: "Rights") -> "Rights":
        """Return the rights of both."""
        return Rights(
            self.subscribe | other.subscribe,
            self.publish | other.publish,
            self.manage | other.manage,
        )

    def find(self, verb: Verb, topic: str) -> str | None:
        """Return the pattern that allows a verb on a topic; None if there is none."""
        patterns: Patterns = getattr(self, verb)
        return patterns.find(topic)


NO_RIGHTS: Final = Rights()
ALL_RIGHTS: Final = Rights(EVERYTHING, EVERYTHING, EVERYTHING)


class Principal:
    """The caller of a command, request or stream.

    State: the topics to which it may subscribe and publish, as far as they were checked, at most
    _REMEMBERED of each; everything else is fixed.
    """

    __slots__ = (
        "_allowed",
        "can_publish",
        "expires_at",
        "info",
        "key_name",
        "rights",
        "subject",
        "unlimited",
    )

    def __init__(
        self,
        rights: Rights,
        *,
        subject: str = "",
        expires_at: float | None = None,
        info: Json = None,
        key_name: str = "",
    ) -> None:
        """Describe a caller.

        Args:
            rights: what it may do.
            subject: of its token; empty for a caller without a token.
            expires_at: the `exp` of its token, in seconds since the epoch; None if it has none.
            info: the token's, shown in presence.
            key_name: of its API key; empty for a caller without one.
        """
        self.rights = rights
        self.subject = subject
        self.expires_at = expires_at
        self.info = info
        self.key_name = key_name
        self.unlimited = all(patterns.every for patterns in rights)
        self.can_publish: set[str] = set()  # topics to which it may publish, as checked before
        self._allowed = {Verb.SUBSCRIBE: set[str](), Verb.PUBLISH: self.can_publish}

    def __repr__(self) -> str:
        name = f"key {self.key_name!r}" if self.key_name else repr(self.subject)
        return f"<Principal {name}>"

    @property
    def is_anonymous(self) -> bool:
        """Whether it has neither a token nor an API key."""
        return not self.subject and not self.key_name

    @property
    def ends_at(self) -> float | None:
        """The time at which its token is no longer accepted, in seconds since the epoch.

        None if it never ends.
        """
        return None if self.expires_at is None else self.expires_at + LEEWAY

    @property
    def manages_all(self) -> bool:
        """Whether it has an API key or may manage `#`, as lists of the whole server require."""
        return bool(self.rights.manage.every)

    def may(self, verb: Verb, topic: str) -> bool:
        """Return whether it has a right."""
        if self.unlimited:
            return True
        allowed = self._allowed.get(verb)
        if allowed is not None and topic in allowed:
            return True
        if self.rights.find(verb, topic) is None:
            return False
        if allowed is not None and len(topic) <= _MAX_REMEMBERED:
            if len(allowed) == _REMEMBERED:
                allowed.clear()
            allowed.add(topic)
        return True


ANONYMOUS: Final = Principal(ALL_RIGHTS)  # every caller, while access is off


class Access:
    """Decides what a principal may do.

    State: none of its own.
    """

    def __init__(self, anonymous: Principal = ANONYMOUS) -> None:
        """`anonymous`: the caller without a token or key. It has all rights if access is off."""
        self.anonymous = anonymous

    def check(self, principal: Principal, verb: Verb, topic: str) -> Refusal | None:
        """Return the refusal of a principal that lacks a right; None if it has it."""
        if principal.may(verb, topic):
            return None
        return _refuse(principal, f"{verb} on topic {topic!r}")

    def check_any(self, principal: Principal, verb: Verb) -> Refusal | None:
        """Return the refusal of a principal that has this right for no topic; None if for any."""
        return None if getattr(principal.rights, verb) else _refuse(principal, verb)

    def check_all(self, principal: Principal) -> Refusal | None:
        """Return the refusal of a principal that may not manage every topic; None if it may."""
        if principal.manages_all:
            return None
        if principal.is_anonymous:
            text = "An API key is needed, or a token that allows manage of '#'"
            return Refusal(ErrorCode.UNAUTHORIZED, text)
        return Refusal(ErrorCode.FORBIDDEN, "The token does not allow manage of '#'")


def _refuse(principal: Principal, what: str) -> Refusal:
    if principal.is_anonymous:
        return Refusal(ErrorCode.UNAUTHORIZED, f"A token is needed for {what}")
    return Refusal(ErrorCode.FORBIDDEN, f"The token does not allow {what}")
