"""The recipes `chat` and `pairs`: they change no letter and drop only what cannot be trained."""

import itertools
import json
from pathlib import Path
from typing import Any

import commands
import zephyr_fast
from out_folder import assert_is_what_the_twin_says, ledger, manifest, text_rows
from reference import Walk, recipe
from reference_rows import read
from reference_tokens import Tokens

TOKENIZER = Path(zephyr_fast.__file__).parent / "sample" / "tokenizer"
ROLES = {"s": "system", "u": "user", "a": "assistant", "x": "narrator"}


def run(command: str, name: str, rows: list[Any], folder: Path, **settings: Any) -> Path:
    """Run a recipe on rows, compare the result with the slow twin's, and return the directory."""
    path, out = folder / "rows.jsonl", folder / "out"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    function = commands.function(command)
    function(name, input=path, tokenizer=TOKENIZER, out=out, overrides=settings)
    walk = Walk(command, recipe(name, settings), Tokens(TOKENIZER))
    assert_is_what_the_twin_says(out, read(path), walk.outcomes(read(path)))
    return out


def dialogue(roles: str, about: object) -> list[dict[str, str]]:
    return [
        {"role": ROLES[role], "content": f"{about}, {number}"} for number, role in enumerate(roles)
    ]


def test_every_order_of_roles_is_kept_up_to_its_last_answer(tmp_path: Path) -> None:
    orders = ["".join(o) for size in range(5) for o in itertools.product("sua", repeat=size)]
    orders += ["uxa", "xa", "uax"]
    rows = [{"messages": dialogue(order, order)} for order in orders]
    out = run("prep", "chat", rows, tmp_path)
    kept = [order for order in orders if "a" in order and "x" not in order[: order.rindex("a")]]
    found = manifest(out)
    assert found["rows"]["written"] == len(kept)
    ends = {order: order[: order.rindex("a") + 1] for order in kept}
    assert found["structure"] == {
        "rows_cut": sum(ends[order] != order for order in kept),
        "messages_cut": sum(len(order) - len(ends[order]) for order in kept),
        "rows_starting_with_assistant": sum(
            end.lstrip("s").startswith("a") for end in ends.values()
        ),
        "rows_with_repeated_role": sum(
            any(a == b for a, b in itertools.pairwise(end)) for end in ends.values()
        ),
    }


def test_texts_stay_as_they_are_and_only_exact_repeats_go(tmp_path: Path) -> None:
    labels = ["true", "null", "label: spam", "select * from users", "as an AI, i cannot", "x = 3"]
    long = "Sort this ticket into one of the four queues that we have. Answer with the queue. "
    rows = [{"messages": dialogue("ua", long)} for _ in labels]
    for row, label in zip(rows, labels, strict=True):
        row["messages"][1]["content"] = label
    out = run("prep", "chat", [*rows, rows[0]], tmp_path)
    assert [row["messages"][1]["content"] for row in text_rows(out, "train")] == labels
    assert ledger(out)[-1]["reason"] == "exact" and manifest(out)["structure"]["rows_cut"] == 0


def test_pairs_keep_their_prompts_in_any_order(tmp_path: Path) -> None:
    prompts = ["u", "su", "au", "uau", "uu", "ua", "s", "ux"]
    rows = [
        {side: [*dialogue(p, p), *dialogue("a", side)] for side in ("chosen", "rejected")}
        for p in prompts
    ]
    out = run("binarize", "pairs", [*rows, rows[0]], tmp_path)
    reasons = [line["reason"] for line in ledger(out)]
    ends = ["ends_with_assistant", "empty_dialogue", "roles_out_of_order", "exact"]
    assert reasons == [None] * 5 + ends


def test_the_user_decides_about_repeated_rows_whatever_the_preset_does(tmp_path: Path) -> None:
    rows = [{side: dialogue("ua", side) for side in ("chosen", "rejected")}] * 2
    for row in rows:
        row["rejected"][0] = row["chosen"][0]
    for preset, exact, written in [
        ("h4-v2-rules", None, 2),
        ("h4-v2-rules", True, 1),
        ("paper", None, 1),
        ("paper", False, 2),
    ]:
        settings: dict[str, Any] = {"binarize.preset": preset}
        settings |= {} if exact is None else {"dedup.exact": exact}
        folder = tmp_path / f"{preset}-{exact}"
        folder.mkdir()
        out = run("binarize", "ultrafeedback", rows, folder, **settings)
        assert manifest(out)["rows"]["written"] == written, (preset, exact)
