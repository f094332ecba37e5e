"""Parse a YAML file of `key: value` lines from an untrusted source.

No objects are constructed, and the size of the result is bounded.
"""

from pathlib import Path
from typing import Any

import yaml

from zephyr_fast._core import ConfigError, InputError
from zephyr_fast.printed import brief
from zephyr_fast.untrusted.bounded import read_bytes

BYTES_MAX = 256 << 10
"""Maximum size of a file; a training config is a page of text."""

NODES_MAX = 20_000
"""Maximum number of values after expansion of aliases.

Nine levels of ten aliases each expand to a billion values.
"""


def read(config: Path) -> dict[str, Any]:
    """Parse a config file.

    Raises:
        InputError: If the file cannot be read.
        ConfigError: If it is not a YAML table with string keys.
    """
    try:
        given = _parsed(read_bytes(config, BYTES_MAX).decode("utf-8"))
    except OSError as error:
        raise InputError(f"cannot read `{config}`: {error.strerror}") from error
    except RecursionError as error:
        raise ConfigError(f"{config}: values are nested too deep") from error
    except (
        yaml.YAMLError,
        ValueError,
        OverflowError,
    ) as error:  # an invalid date is a ValueError
        raise ConfigError(f"{config}: invalid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(given, dict):
        raise ConfigError(f"{config}: expected `key: value` lines")
    for key in given:
        if not isinstance(key, str):
            raise ConfigError(f"{config}: the key {brief(key)} is not a string")
    return given


def _parsed(text: str) -> Any:
    loader = yaml.SafeLoader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        _size(root, {})
        _check_no_key_twice(root)
        return loader.construct_document(root)
    finally:
        loader.dispose()


def _size(node: yaml.Node, sizes: dict[int, int]) -> int:
    """Return the number of values of a node after expansion of aliases.

    Raises YAMLError if there are too many, or if a node contains itself.
    """
    if id(node) in sizes:
        if sizes[id(node)] == 0:
            raise yaml.YAMLError("a value contains itself")
        return sizes[id(node)]
    sizes[id(node)] = 0  # being counted
    children: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        children = [part for pair in node.value for part in pair]
    elif isinstance(node, yaml.SequenceNode):
        children = node.value
    size = 1 + sum(_size(child, sizes) for child in children)
    if size > NODES_MAX:
        raise yaml.YAMLError(f"its aliases expand to more than {NODES_MAX:,} values")
    sizes[id(node)] = size
    return size


def _check_no_key_twice(root: yaml.Node) -> None:
    """Raise YAMLError for a duplicate key: YAML would silently drop the first value."""
    seen: set[str] = set()
    for key, _ in root.value if isinstance(root, yaml.MappingNode) else []:
        if isinstance(key, yaml.ScalarNode) and key.value != "<<":
            if key.value in seen:
                raise yaml.YAMLError(
                    f"duplicate key `{key.value}` in line {key.start_mark.line + 1}"
                )
            seen.add(key.value)
