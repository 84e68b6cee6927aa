"""The values and patterns of vectors."""

import json
import re
from typing import Any

_LARGE = re.compile(r'"<(\d+) (bytes|lists|objects)>"')

_MATCHERS = {
    "<ts>": re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"),
    "<id>": re.compile(r"\d{19}-\w+"),
    "<info id>": re.compile(r"info_\d{19}-\w+"),
    "<text>": re.compile(r".+"),
}


def write_out(value: Any) -> str:
    """Return a vector's value as JSON text, with its abbreviated large values written out."""
    return _LARGE.sub(_large, json.dumps(value))


def _large(found: re.Match[str]) -> str:
    count = int(found[1])
    if found[2] == "bytes":
        return json.dumps("x" * count)
    if found[2] == "lists":
        return "[" * count + "]" * count
    return '{"k":' * (count - 1) + "{}" + "}" * (count - 1)


def mismatch(pattern: Any, value: Any, place: str = "") -> str:
    """Return the place where `value` differs from `pattern`, or an empty string.

    The keys of an object must be in the same order.
    """
    if isinstance(pattern, dict) and isinstance(value, dict):
        if list(pattern) != list(value):
            return f"{place}: keys {list(value)}, not {list(pattern)}"
        pairs = [(pattern[key], value[key], f"{place}.{key}") for key in pattern]
        return next(filter(None, (mismatch(*pair) for pair in pairs)), "")
    if isinstance(pattern, str) and pattern in _MATCHERS:
        if isinstance(value, str) and _MATCHERS[pattern].fullmatch(value):
            return ""
        return f"{place}: {value!r} is no {pattern}"
    if type(pattern) is type(value) and pattern == value:
        return ""
    return f"{place}: {value!r}, not {pattern!r}"
