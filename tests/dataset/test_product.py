"""Python's products are the core's, and each of them has an answer to every question."""

from typing import Any

import pytest

from zephyr_fast import IntegrityError, _core
from zephyr_fast.dataset.manifest import Split
from zephyr_fast.dataset.product import Product
from zephyr_fast.dataset.typed import typed
from zephyr_fast.load.columns import SCHEMAS, id_columns, layouts
from zephyr_fast.prepare.inputs import find_inputs
from zephyr_fast.prepare.recipe import bundled, read

SPLIT = Split(
    rows=3,
    examples=2,
    tokens=100,
    label_tokens=40,
    tokens_truncated=7,
    label_tokens_truncated=5,
    rows_truncated=1,
    seq_len=64,
    shards=(),
    text=(),
    fill=0.78125,
)


def test_the_products_are_those_of_the_core() -> None:
    assert [product.value for product in Product] == _core.names("products")
    assert [product.command for product in Product] == _core.names("commands")
    assert [product.act for product in Product] == _core.names("acts")


@pytest.mark.parametrize("product", Product)
def test_a_product_has_an_answer_to_every_question(product: Product) -> None:
    facts = product.facts
    assert Product.of_command(product.command) is product
    assert facts.summary(SPLIT, True) != facts.summary(SPLIT, False)
    assert facts.tokens_seen(SPLIT) and facts.documents(SPLIT)
    assert find_inputs(product.command, read(bundled(product.command)[0]), ["sample"])[0].is_file()


@pytest.mark.parametrize("product", Product)
def test_trained_columns_are_lists_that_the_shards_have(product: Product) -> None:
    lists = [layout.name for layout in layouts(product) if layout.is_list]
    assert set(product.trained_columns) <= set(lists)
    assert set(id_columns(product)) <= set(product.trained_columns)
    assert SCHEMAS[product].names == [layout.name for layout in layouts(product)]


@pytest.mark.parametrize("word", ["labelled", "", "SFT", None, 1, ["sft"]], ids=str)
def test_an_unknown_word_is_refused_and_not_taken_for_another_product(word: Any) -> None:
    with pytest.raises(IntegrityError, match="expected one of sft, preference"):
        typed(Product, word, (None, "kind"))


def test_the_words_of_a_summary() -> None:
    windows, pairs = Product.WINDOWS, Product.PAIRS
    assert windows.facts.summary(SPLIT, False) == "3 dialogues, text only"
    assert pairs.facts.summary(SPLIT, False) == "2 pairs from 3 prompts, text only"
    cut = "2 pairs from 3 prompts, 100 tokens, 7 tokens truncated at 64"
    assert pairs.facts.summary(SPLIT, True) == cut
    assert windows.facts.summary(SPLIT, True) == (
        "3 dialogues in 2 sequences of 64 tokens (78.1% full); 100 tokens, 40% with labels, "
        "7 tokens of 1 over-long dialogues truncated"
    )
