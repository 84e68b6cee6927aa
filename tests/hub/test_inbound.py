"""The limit of a message's id."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.errors import ErrorCode, Refusal
from hub.protocol.commands import Publish, decode
from hub.protocol.validation import MAX_ID_BYTES

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=50),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
)
TEXTS = st.text(st.sampled_from('x"\\\n\x01é€😀'), max_size=2 * MAX_ID_BYTES)


def decoded(message_id: Any) -> Publish | Refusal:
    command = {"type": "publish", "request_id": "r", "topic": "t"}
    data = orjson.dumps({**command, "message": {"id": message_id, "payload": 1}})
    outcome = decode(data, 255)
    assert isinstance(outcome, Publish | Refusal)
    return outcome


@pytest.mark.parametrize(
    "message_id",
    ["x" * 254, "é" * 127, "\x01" * 43, {"a": "x" * 248}, [1] * 128, [[]] * 30_000],
)
def test_a_long_id_is_refused(message_id: Any) -> None:
    refusal = decoded(message_id)
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.request_id) == (ErrorCode.INVALID_MESSAGE, "r")
    assert f"at most {MAX_ID_BYTES} bytes of JSON" in refusal.text


@given(JSON | TEXTS)
def test_an_id_is_accepted_if_its_encoding_is_within_the_limit(message_id: Any) -> None:
    outcome = decoded(message_id)
    if len(orjson.dumps(message_id)) > MAX_ID_BYTES:
        assert isinstance(outcome, Refusal)
    else:
        assert isinstance(outcome, Publish)
        assert outcome.id == message_id
