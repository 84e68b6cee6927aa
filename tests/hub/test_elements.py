"""The elements of a JSON text are counted before it is parsed."""

import json
import re
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.protocol import validation
from hub.protocol.validation import MAX_ELEMENTS, has_too_many_elements
from hub.settings import Settings
from tests.support.node import Node

ONES = b",".join([b"1"] * MAX_ELEMENTS)
TEXT = b'"' + b",[{" * MAX_ELEMENTS + b'"'


@pytest.mark.parametrize(
    ("text", "too_many"),
    [
        (b"[%b]" % ONES, False),
        (b"[%b,1]" % ONES, True),
        (b'{"a":[%b]}' % ONES, True),
        (b"[" * MAX_ELEMENTS + b" ", False),
        (b"[" * MAX_ELEMENTS + b"[", True),
        (b"{}," * MAX_ELEMENTS, True),
        (b'"",' * (MAX_ELEMENTS + 1), True),
        (TEXT, False),
        (b"[%b,%b]" % (TEXT, ONES[2:]), False),
        (b"[%b,%b]" % (TEXT, ONES), True),
        (rb'["\"%b,"' % (b"," * MAX_ELEMENTS), False),
        (rb'["\\",%b,1]' % ONES, True),
        (rb'["\\\"%b"]' % (b"," * MAX_ELEMENTS), False),
        (b'"' * 10 * MAX_ELEMENTS + b"," * (MAX_ELEMENTS + 1), True),
        (b" " * 10 * MAX_ELEMENTS, False),
        (b"", False),
    ],
)
def test_elements_within_strings_do_not_count(text: bytes, too_many: bool) -> None:
    assert has_too_many_elements(text) is too_many
    assert has_too_many_elements(bytearray(text)) is too_many


JSON = st.recursive(
    st.none() | st.integers() | st.text(alphabet=',[{}]"\\a'),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(alphabet=',["\\'), inner),
)


@given(JSON, st.integers(0, 9))
def test_the_count_is_that_of_a_simple_count_without_strings(value: Any, bound: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validation, "MAX_ELEMENTS", bound)
        text = json.dumps(value)
        bare = re.sub(r'"(\\.|[^"\\])*"', "", text)
        too_many = sum(map(bare.count, ",[{")) > bound
        assert has_too_many_elements(text.encode()) is too_many


def test_a_message_with_too_many_elements_is_refused_before_it_is_parsed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = Node(Settings(max_message_bytes=10_000_000))
    peer = node.connect("me")
    text = b'{"type":"publish","topic":"t","request_id":"r","payload":[%b]}' % ONES

    def loads(_: bytes) -> None:
        raise AssertionError("it is parsed")

    with monkeypatch.context() as patch:
        patch.setattr(orjson, "loads", loads)
        peer.say(text)
        peer.say(text.replace(b'"t"', b'"\xff"'))
    (error, close) = peer.hear()
    assert error["error"]["code"] == "INVALID_MESSAGE"
    assert error["error"]["message"] == validation.TOO_MANY_ELEMENTS
    assert close == ("close", 1007, "invalid_utf8")
