"""Compare `encode` with `apply_chat_template` and its assistant masks, which it must equal.

    python scripts/benchmarks/encode.py --input ultrachat/200k_real.jsonl.gz \\
        --tokenizer tokenizers/mistral-7b-v0.1 [--template chatml.jinja] --repeats 5

Every run is a separate process on one thread. Rows have `messages`, and are read again from the
start up to `--rows`. `encode` gets all of them at once, and `apply_chat_template` a part, one by
one. Both have loaded their tokenizer before. The rate is bytes of text per CPU second. Ids and
labels of the part must be equal. `--template` is a file with `{% generation %}` tags; the default
is Zephyr's, to which tags are added for `transformers`.
"""

import argparse
import gc
import json
import sys
import time
from collections.abc import Callable
from hashlib import sha256
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from measuring import (
    describe_machine,
    in_turns,
    parser_of,
    ratios_by_turn,
    run_process,
    show_machine,
    show_table,
    spread,
    verdict,
)
from real_data import lines_of, located

CONTENDERS = ("encode", "transformers")
SLOW_SHARE = 20  # `apply_chat_template` gets one of so many rows
MUST = 40
ANSWER = "{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n"
TAGGED = (
    "{{ '<|assistant|>\n' }}{% generation %}{{ message['content'] + eos_token }}"
    "{% endgeneration %}{{ '\n' }}"
)

Dialogues = list[list[dict[str, Any]]]
Encoded = list[tuple[list[int], list[int]]]
"""Ids and labels of each dialogue."""


def dialogues(args: argparse.Namespace) -> Dialogues:
    """Return the dialogues, each a new object."""
    lines = cycle(list(lines_of([located(args.input)])))
    rows = (json.loads(line)["messages"] for line in islice(lines, args.rows))
    keys = ("role", "content")
    return [[{key: message[key] for key in keys} for message in row] for row in rows]


def encode(args: argparse.Namespace) -> tuple[Callable[[Dialogues], Any], Callable[[Any], Encoded]]:
    """Return `encode` with its tokenizer, and what takes the result apart."""
    import zephyr_fast

    def run(rows: Dialogues) -> Any:
        return zephyr_fast.encode(rows, located(args.tokenizer), args.template or "zephyr")

    def parts(table: Any) -> Encoded:
        columns = (table[name].to_pylist() for name in ("input_ids", "labels"))
        return list(zip(*columns, strict=True))

    run([[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes."}]])
    return run, parts


def transformers(
    args: argparse.Namespace,
) -> tuple[Callable[[Dialogues], Any], Callable[[Any], Encoded]]:
    """Return `apply_chat_template` for each dialogue, with the ids of the tokenizer.json."""
    from importlib.resources import files

    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast.from_pretrained(located(args.tokenizer))
    if args.template:
        template = Path(args.template).read_text(encoding="utf-8")
    else:
        zephyr = files("zephyr_fast") / "templates" / "zephyr.jinja"
        template = zephyr.read_text(encoding="utf-8").replace(ANSWER, TAGGED)
        assert TAGGED in template

    def run(rows: Dialogues) -> Any:
        return [
            tokenizer.apply_chat_template(
                row,
                chat_template=template,
                return_dict=True,
                return_assistant_tokens_mask=True,
            )
            for row in rows
        ]

    def parts(made: Any) -> Encoded:
        return [
            (ids, [one if is_trained else -100 for one, is_trained in zip(ids, mask, strict=True)])
            for ids, mask in ((one["input_ids"], one["assistant_masks"]) for one in made)
        ]

    return run, parts


def contend(args: argparse.Namespace) -> None:
    """Run one contender and print its rate and a digest of its first rows, as JSON."""
    rows = dialogues(args)
    part = args.rows // SLOW_SHARE
    is_ours = args.contender == "encode"
    run, parts = encode(args) if is_ours else transformers(args)
    given = rows if is_ours else rows[:part]
    # A collection of the objects of imported packages would take longer than the work.
    gc.collect()
    gc.freeze()
    start = time.process_time()
    made = run(given)
    seconds = time.process_time() - start
    size = sum(len(message["content"].encode()) for row in given for message in row)
    digest = sha256(json.dumps(parts(made)[:part]).encode()).hexdigest()
    print(json.dumps({"rate": size / seconds / 1e6, "digest": digest}))


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--input", default="ultrachat/200k_real.jsonl.gz")
    parser.add_argument("--tokenizer", default="tokenizers/mistral-7b-v0.1")
    parser.add_argument("--template")
    parser.add_argument("--rows", type=int, default=8_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.contender:
        return contend(args)
    machine = describe_machine(1)
    reports: dict[str, list[dict[str, Any]]] = {name: [] for name in CONTENDERS}
    one_thread = {"RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    for _, name in in_turns(CONTENDERS, args.repeats):
        ended = run_process(
            [sys.executable, __file__, *sys.argv[1:], "--contender", name], one_thread
        )
        reports[name].append(ended.report(name))
    if len({report["digest"] for all_of_one in reports.values() for report in all_of_one}) != 1:
        sys.exit("ids or labels differ")
    ours, theirs = ([report["rate"] for report in reports[name]] for name in CONTENDERS)
    ratios = ratios_by_turn(ours, theirs)
    show_machine(machine)
    show_table(
        "Dialogues to ids and labels, per CPU second",
        ("", "rate", "speedup", "goal"),
        [
            ("encode", spread(ours, "MB"), "", ""),
            ("transformers", spread(theirs, "MB"), spread(ratios), verdict(ratios, MUST)),
        ],
    )
    return None


if __name__ == "__main__":
    main()
