"""The worked examples at the head of a module run as doctests and print what they say."""

import doctest
import importlib

import pytest

MODULES = [
    "zephyr_fast.load.permutation",
    "zephyr_fast.load.stream",
    "zephyr_fast.train.padding_free",
]


@pytest.mark.parametrize("name", MODULES)
def test_the_example_at_the_head_of_a_module_prints_what_it_says(name: str) -> None:
    module = importlib.import_module(name)
    head = doctest.DocTestFinder(recurse=False).find(module, name)[0]
    assert head.examples, f"{name} has no example at its head"
    failed, _ = doctest.testmod(module)
    assert failed == 0
