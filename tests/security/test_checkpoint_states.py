"""Numbers and kinds of a checkpoint's state that no run has, URLs cut by `Path`, and a token
that must not be saved.
"""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from zephyr_fast import ConfigError, InputError, IntegrityError, Manifest, Shards
from zephyr_fast.dataset.remote import _cache
from zephyr_fast.load.stream import LoaderState
from zephyr_fast.train.checkpoint import check_checkpoint
from zephyr_fast.train.ordered import _index
from zephyr_fast.train.ref_logprobs import store
from zephyr_fast.train.run import hide_token

GOOD = {
    "data_sha256": "m",
    "seed": 1,
    "epoch": 0,
    "index_in_epoch": 3,
    "permutation_version": 1,
    "version": 2,
}


@pytest.mark.parametrize(
    "change",
    [
        {"epoch": -7},
        {"index_in_epoch": -5},
        {"epoch": 10**30},
        {"index_in_epoch": True},
        {"seed": "1"},
    ],
    ids=str,
)
def test_an_orders_state_is_one_that_a_run_has(change: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError) as error:
        LoaderState.from_json(json.dumps(GOOD | change))
    assert len(str(error.value)) < 500


@pytest.mark.parametrize(
    "text", ["[" * 100_000, 5, None, "[]", "{}"], ids=lambda text: str(text)[:9]
)
def test_an_orders_state_is_json_of_ours(text: Any) -> None:
    with pytest.raises(IntegrityError):
        LoaderState.from_json(text)


FIRST = {"manifest": "m", "seed": 1, "epoch": 0, "cursor": 3, "order": 1}
"""A state as it was before it said its version."""

OTHER_VERSIONS = [
    (
        FIRST,
        "has version 1, .* resume with the zephyr-fast version that wrote it, or start a new run",
    ),
    (GOOD | {"version": 1}, "has version 1, .* resume with the zephyr-fast version that wrote it"),
    (GOOD | {"version": 3}, "has version 3, .* update zephyr-fast, or start a new run"),
    (GOOD | {"version": 10**300}, "update zephyr-fast"),
]


@pytest.mark.parametrize("given, way_out", OTHER_VERSIONS, ids=["first", "1", "3", "huge"])
def test_a_state_of_another_version_is_refused_with_the_way_out(
    given: dict[str, Any], way_out: str
) -> None:
    with pytest.raises(InputError, match=way_out) as error:
        LoaderState.from_json(json.dumps(given))
    assert "`--model_name_or_path`" in str(error.value) and len(str(error.value)) < 500


@pytest.mark.parametrize("version", [None, "2", True, 2.0])
def test_a_version_is_a_whole_number(version: object) -> None:
    with pytest.raises(IntegrityError, match="damaged"):
        LoaderState.from_json(json.dumps(GOOD | {"version": version}))


@pytest.mark.parametrize("epoch, index", [(0, 10), (2**52, 3)])
def test_an_index_is_one_of_the_data_set(epoch: int, index: int) -> None:
    state = LoaderState("m", 1, epoch, index)
    with pytest.raises(IntegrityError, match="has only 10 samples"):
        _index(state, "m", 1, 10)
    assert _index(LoaderState("m", 1, 2, 3), "m", 1, 10) == 23


def test_another_order_is_refused_with_the_way_out() -> None:
    with pytest.raises(ConfigError, match=r"seed 2, not 1.; set `seed: 2`"):
        _index(LoaderState("m", 2, 0, 3), "m", 1, 10)
    with pytest.raises(
        ConfigError, match=r"version 7, not 1.; resume with .* that wrote it"
    ) as error:
        _index(LoaderState("m", 2, 0, 3, permutation_version=7), "m", 1, 10)
    assert "set `seed" not in str(error.value), "no other seed would help"


@pytest.mark.parametrize(
    "change",
    [
        {"global_step": 2**63 - 1},
        {"global_step": -1},
        {"global_step": None},
        {"train_batch_size": "x"},
        {"train_batch_size": 10**30},
        {"best_model_checkpoint": {"a": 1}},
        {"epoch": "q"},
        {"log_history": 5},
        {"log_history": [5]},
        {"stateful_callbacks": [1]},
        {"stateful_callbacks": {"LoaderStateCallback": {"attributes": {"loader_state": "{}"}}}},
        {
            "stateful_callbacks": {
                "TrainerControl": {"args": {"should_save": "x"}, "attributes": {}}
            }
        },
    ],
    ids=str,
)
def test_a_trainers_state_has_fields_of_their_kinds(change: dict[str, Any], tmp_path: Path) -> None:
    good = {
        "global_step": 2,
        "epoch": 0.5,
        "log_history": [{"step": 1, "loss": 1.0}],
        "stateful_callbacks": {},
        "train_batch_size": 2,
    }
    (tmp_path / "trainer_state.json").write_text(json.dumps(good))
    check_checkpoint(str(tmp_path))
    (tmp_path / "trainer_state.json").write_text(json.dumps(good | change))
    with pytest.raises(InputError, match=f"its `{next(iter(change))}` is"):
        check_checkpoint(str(tmp_path))


@pytest.mark.parametrize(
    "url",
    ["https://user:PASSWORD@host/x", "HTTP://user:PASSWORD@localhost/x", "s3://user:PASSWORD@b/x"],
)
def test_a_url_that_went_through_path_is_not_shown(url: str) -> None:
    for read in (lambda: Shards(Path(url), "train"), lambda: Manifest.read(Path(url))):
        with pytest.raises(InputError, match="as text") as error:
            read()
        assert "PASSWORD" not in str(error.value)


def test_a_missing_home_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ZEPHYR_FAST_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)

    def none() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", none)
    with pytest.raises(InputError, match="ZEPHYR_FAST_CACHE"):
        _cache()


@pytest.mark.parametrize("pairs, parts", [(10**12, 0), (2049, 1), (0, 1)])
def test_pairs_of_stored_log_probs_are_as_many_as_their_parts(pairs: int, parts: int) -> None:
    cards = [{"file": store.part_name("train", number), "sha256": ""} for number in range(parts)]
    assert not store._is_entry("train", {"pairs": pairs, "parts": cards})


def test_tokens_leave_the_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "")
    training: Any = SimpleNamespace(
        hub_token="hf_canary", model_init_kwargs={"token": "hf_other", "dtype": "auto"}
    )
    hide_token(training)
    assert training.hub_token is None and training.model_init_kwargs == {"dtype": "auto"}
    import os

    assert os.environ["HF_TOKEN"] == "hf_canary"
