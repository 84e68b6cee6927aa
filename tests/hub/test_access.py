"""Patterns and rights, without a token and without a request."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.access import (
    ALL_RIGHTS,
    ANONYMOUS,
    MAX_PATTERNS,
    NO_RIGHTS,
    NOTHING,
    Access,
    Principal,
    Rights,
    Verb,
    compile_patterns,
)
from hub.errors import ErrorCode

# The page's own functions have the same cases.
CASES = json.loads((Path(__file__).parents[1] / "vectors/access.json").read_text())


@pytest.mark.parametrize(("pattern", "topic"), CASES["match"])
def test_a_pattern_matches(pattern: str, topic: str) -> None:
    assert compile_patterns([pattern]).find(topic) == pattern


@pytest.mark.parametrize(("pattern", "topic"), CASES["no_match"])
def test_a_pattern_does_not_match(pattern: str, topic: str) -> None:
    assert compile_patterns([pattern]).find(topic) is None


@pytest.mark.parametrize("pattern", CASES["misplaced_plus"])
def test_a_plus_sign_within_a_level_is_not_valid(pattern: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"{pattern!r}: '+' must be a whole level")):
        compile_patterns([pattern], subject="ann")


@pytest.mark.parametrize("pattern", CASES["misplaced_number_sign"])
def test_a_number_sign_elsewhere_than_at_the_end_is_not_valid(pattern: str) -> None:
    text = re.escape(f"{pattern!r}: '#' must be the whole last level")
    with pytest.raises(ValueError, match=text):
        compile_patterns([pattern])


def test_at_most_100_patterns_are_allowed() -> None:
    names = [f"a/{number}" for number in range(MAX_PATTERNS + 1)]
    assert compile_patterns(names[:-1]).find("a/99")
    with pytest.raises(ValueError, match="at most 100"):
        compile_patterns(names)


def test_another_separator_makes_the_slash_a_letter() -> None:
    dotted = compile_patterns(["a.+", "b.#"], separator=".")
    assert dotted.find("a.x/y") == "a.+"
    assert dotted.find("b.c.d") == "b.#"
    assert dotted.find("a/x") is None
    with pytest.raises(ValueError, match="whole level"):
        compile_patterns(["a/+"], separator=".")


# --- {sub} ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("pattern", "subject", "topic"), CASES["subject_match"])
def test_the_subject_replaces_its_placeholder(pattern: str, subject: str, topic: str) -> None:
    patterns = compile_patterns([pattern], subject=subject)
    assert patterns.find(topic) == pattern
    assert patterns.find(pattern) is None


@pytest.mark.parametrize("subject", CASES["unusable_subjects"])
@pytest.mark.parametrize("pattern", CASES["subject_patterns"])
def test_a_subject_with_a_special_character_matches_nothing(pattern: str, subject: str) -> None:
    patterns = compile_patterns([pattern], subject=subject)
    assert not patterns
    for topic in (subject, "a", "chat/a", f"chat/{subject}", pattern, f"x{subject}"):
        assert patterns.find(topic) is None


def test_a_subject_with_a_special_character_keeps_its_other_patterns() -> None:
    assert compile_patterns(["chat/{sub}", "news"], subject="#").find("news") == "news"


def test_the_separator_that_is_set_is_the_special_one() -> None:
    assert compile_patterns(["a.{sub}"], ".", "x/y").find("a.x/y")
    assert not compile_patterns(["a.{sub}"], ".", "x.y")


def test_a_placeholder_without_a_subject_is_not_valid() -> None:
    with pytest.raises(ValueError, match=r"'a/\{sub\}': \{sub\} has no meaning without a token"):
        compile_patterns(["a/{sub}"])


# --- A naive matcher ------------------------------------------------------------------------------


def naive(pattern: list[str], topic: list[str]) -> bool:
    """Match level by level, as the standard words it."""
    if pattern == ["#"]:
        return True
    if not pattern or not topic:
        return pattern == topic
    if pattern[0] not in ("+", topic[0]):
        return False
    return naive(pattern[1:], topic[1:]) or (pattern[1:] == ["#"] and len(topic) == 1)


LEVELS = st.lists(st.sampled_from(["", "a", "b", "ab", "+", "*"]), min_size=1, max_size=5)
PATTERNS = st.lists(
    st.tuples(LEVELS, st.booleans()).map(lambda it: [*it[0], "#"] if it[1] else it[0]), max_size=4
)


@given(PATTERNS, PATTERNS, LEVELS)
def test_patterns_match_as_a_naive_matcher(
    one: list[list[str]], other: list[list[str]], topic: list[str]
) -> None:
    one = [["#"] if pattern == ["*"] else pattern for pattern in one]
    other = [["#"] if pattern == ["*"] else pattern for pattern in other]
    name = "/".join(topic)
    sets = [compile_patterns(map("/".join, patterns)) for patterns in (one, other)]
    expected = [any(naive(pattern, topic) for pattern in patterns) for patterns in (one, other)]
    assert [patterns.find(name) is not None for patterns in sets] == expected
    assert ((sets[0] | sets[1]).find(name) is not None) == any(expected)


# --- Principals -----------------------------------------------------------------------------------


def rights(subscribe: str = "", publish: str = "", manage: str = "") -> Rights:
    lists = ([text] if text else [] for text in (subscribe, publish, manage))
    return Rights(*map(compile_patterns, lists))


def test_with_access_off_everybody_may_do_everything() -> None:
    access = Access()
    assert access.anonymous is ANONYMOUS
    for verb in Verb:
        assert access.check(ANONYMOUS, verb, "any/topic") is None


def test_each_verb_has_its_own_patterns() -> None:
    ann = Principal(rights("a", "b", "c"), subject="ann")
    for verb, topic in zip(Verb, "abc", strict=True):
        assert [name for name in "abc" if ann.may(verb, name)] == [topic]


def test_a_caller_without_a_token_is_unauthorized() -> None:
    access = Access(Principal(rights(subscribe="news")))
    assert access.check(access.anonymous, Verb.SUBSCRIBE, "news") is None
    refusal = access.check(access.anonymous, Verb.PUBLISH, "news")
    assert refusal is not None
    assert refusal.code is ErrorCode.UNAUTHORIZED
    assert refusal.text == "A token is needed for publish on topic 'news'"


def test_a_token_without_the_right_is_forbidden() -> None:
    ann = Principal(rights(subscribe="news"), subject="ann")
    refusal = Access(Principal(NO_RIGHTS)).check(ann, Verb.MANAGE, "news")
    assert refusal is not None
    assert refusal.code is ErrorCode.FORBIDDEN
    assert refusal.text == "The token does not allow manage on topic 'news'"


def test_rights_add_up() -> None:
    both = rights("a", "", "m").union(rights("b/#", "p", ""))
    assert both.find(Verb.SUBSCRIBE, "a")
    assert both.find(Verb.SUBSCRIBE, "b/c")
    assert both.find(Verb.PUBLISH, "p")
    assert both.find(Verb.MANAGE, "m")
    assert not both.find(Verb.PUBLISH, "a")
    assert NO_RIGHTS.union(ALL_RIGHTS).find(Verb.MANAGE, "x") == "#"


def test_rights_add_up_with_another_separator() -> None:
    dotted = compile_patterns(["a.+"], ".")
    for patterns in (NOTHING | dotted, dotted | NOTHING):
        assert patterns.find("a.b") == "a.+"


def test_only_a_number_sign_or_an_asterisk_manages_everything() -> None:
    assert Principal(rights(manage="#"), subject="a").manages_all
    assert Principal(rights(manage="*"), subject="a").manages_all
    assert Principal(ALL_RIGHTS, key_name="app").manages_all
    assert not Principal(rights(subscribe="#", manage="a/#"), subject="a").manages_all


def test_a_principal_answers_the_same_however_often_it_is_asked() -> None:
    ann = Principal(rights("a/+", "b/#"), subject="ann")
    topics = [f"{kind}/{number}" for kind in "abc" for number in range(100)] + ["a/" + "x" * 300]
    for _ in range(3):
        for topic in topics:
            assert ann.may(Verb.SUBSCRIBE, topic) == topic.startswith("a/")
            assert ann.may(Verb.PUBLISH, topic) == topic.startswith("b/")
            assert not ann.may(Verb.MANAGE, topic)


def test_a_token_ends_five_seconds_after_its_expiry() -> None:
    assert Principal(NO_RIGHTS, subject="ann", expires_at=100).ends_at == 105
    assert Principal(NO_RIGHTS, subject="ann").ends_at is None


def test_a_principal_shows_who_it_is() -> None:
    assert repr(Principal(NO_RIGHTS, subject="ann", info="x")) == "<Principal 'ann'>"
    assert repr(Principal(ALL_RIGHTS, key_name="app")) == "<Principal key 'app'>"
    assert repr(rights("a/+").subscribe) == "<Patterns a/+>"
