"""The objects that this process holds, for tests of what is freed."""

import gc
from typing import TypeVar

T = TypeVar("T")


def objects_of(kind: type[T]) -> list[T]:
    """Return the objects of a class and of its subclasses that the garbage collector knows."""
    # type(), since isinstance() raises for a weak proxy whose object is gone.
    return [it for it in gc.get_objects() if issubclass(type(it), kind)]
