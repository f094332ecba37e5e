"""Reads a YAML file of `key: value` lines that others may have written: no object is built from
it, and it cannot grow as it is read.
"""

from pathlib import Path
from typing import Any

import yaml

from zephyr_fast._core import ConfigError, InputError
from zephyr_fast.printed import brief
from zephyr_fast.untrusted.bounded import read_bytes

BYTES_MAX = 256 << 10
"""A training config is a page of text."""

NODES_MAX = 20_000
"""Values that a file may stand for once its aliases are written out: nine aliases of aliases of
ten can stand for a billion.
"""


def read(config: Path) -> dict[str, Any]:
    """What a config file says. Errors: InputError, ConfigError where it is not YAML."""
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
    ) as error:  # a date that does not exist is a ValueError
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
    """Values that a node stands for, each alias counted anew; YAMLError for too many, and for
    one that is within itself.
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
    """YAMLError for a key that the file gives twice: one of the two values would silently be
    lost.
    """
    seen: set[str] = set()
    for key, _ in root.value if isinstance(root, yaml.MappingNode) else []:
        if isinstance(key, yaml.ScalarNode) and key.value != "<<":
            if key.value in seen:
                raise yaml.YAMLError(
                    f"duplicate key `{key.value}` in line {key.start_mark.line + 1}"
                )
            seen.add(key.value)
