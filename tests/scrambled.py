"""A place somewhere in a JSON value, for tests that put something hostile there."""

import random
from typing import Any


def place(value: Any, chance: random.Random) -> tuple[Any, Any]:
    """An object or a list within `value`, and a key or an index of it; most of the time of one
    that holds no other.
    """
    while True:
        key = chance.choice(list(value) if isinstance(value, dict) else range(len(value)))
        if not isinstance(value[key], dict | list) or not value[key] or chance.random() < 0.1:
            return value, key
        value = value[key]
