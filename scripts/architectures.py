"""Writes docs/architectures.md: which architectures of transformers isolate packed documents.

    python scripts/architectures.py [--out docs/architectures.md]

Each architecture is a small model with random weights, tried on the CPU in float32.
"""

import argparse
import logging
import sys
from importlib.metadata import version
from math import inf
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from tiny_models import ALL, build, tokens  # noqa: E402
from zephyr_fast import ConfigError  # noqa: E402
from zephyr_fast.train import packing  # noqa: E402
from zephyr_fast.train.causality import check_model  # noqa: E402

TITLE = """# Architectures

`zephyr-fast` packs several documents into one row. In some architectures, such documents see each
other: linear attention, convolutions and state-space layers carry values from one document into
the next, and some attention code ignores position ids. Therefore every run proves, before its
first step, that its own model isolates packed documents. If it does not, `pack: auto` (the
default) continues with one document per row, and `pack: true` stops.

The proof packs documents of the run's own data, short ones and ones that fill the longest row, and
checks three things:

- The log-probs of a document do not change at all when only the tokens of other documents change.
- They are those of the document alone, except for rounding.
- Within one document, the same change does change later log-probs. A model that hardly depends on
  its context, e.g. with small random weights in bfloat16, cannot show this and is not packed.

The proof takes 36 forward passes with 23 rows' worth of tokens in total, and the check that the
model is [causal](training.md#what-is-refused) takes 4 more rows and 2 short passes. A step has one
forward and one backward pass, which costs as much as two forward passes. So both cost at most 27 /
3,000 = 0.9 % of 1,000 steps with one row each, and 0.2 % with four. Measured for the bundled model
on a CPU, in CPU seconds with rows of 1,024 tokens: 1.7 s for the proof, 0.4 s for the check, and
0.93 s for each step of four rows. So both cost 0.23 % of 1,000 steps. With flash attention, the
proof and the step both process all rows of a batch, so the share is 0.8 %. DPO proves the model
and its reference.

With one document per row, each row is padded to the longest document of the batch. A packed
sequence of one long and many short documents becomes many rows, so a run may need much more memory.
If it runs out, lower `per_device_train_batch_size`, or the maximum length in the data recipe.

This table shows the result of that proof for small models with random weights (2 layers, float32,
CPU, rows of 256 tokens, transformers {version}). "Difference" is the largest difference of a
log-probability, in nats, between packed and unpacked documents. "Leak" is the largest change of a
log-probability when other documents change. A different version, attention or device may give
another result; the proof of the run decides.

| Architecture | Attention | Difference | Leak | With `pack: auto` |
| --- | --- | ---: | ---: | --- |
"""


def rows(name: str) -> list[str]:
    """Return the lines of one architecture, one per kind of attention that it has."""
    lines = []
    for attention in ("sdpa", "eager"):
        try:
            model = build(name, attention)
        except ValueError as error:
            if attention in str(error) or "scaled_dot" in str(error):  # it has no such attention
                continue
            raise
        proof = packing.prove(model, tokens(), "rows", width=256)
        values = (proof.measure.difference, proof.measure.leak)
        shown = " | ".join("error" if one == inf else f"{one:.1e}" for one in values)
        outcome = _refusal(model) or ("packed" if proof.holds else "one document per row")
        lines.append(f"| `{name}` | {attention} | {shown} | {outcome} |\n")
    return lines


def _refusal(model: Any) -> str | None:
    try:
        check_model(model, tokens(), width=256)
    except ConfigError as error:
        reason = "its logits are not those of TRL" if "logits" in str(error) else str(error)
        return f"refused: {reason}"
    return None


def main() -> None:
    """Try all architectures and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "architectures.md")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    table = [line for name in sorted(ALL) for line in rows(name)]
    text = TITLE.format(version=version("transformers")) + "".join(table)
    options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
