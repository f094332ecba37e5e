"""`zephyr-fast ref-logprobs` and `zephyr-fast estimate`: steps before a training run."""

from pathlib import Path
from typing import Any

import click

from zephyr_fast._core import InputError
from zephyr_fast.printed import say, say_json, shown


@click.command("ref-logprobs", short_help="Precompute reference log-probs for DPO.")
@click.argument("prefs", metavar="DIR")
@click.option(
    "--model", required=True, help="Model that training will start from: directory or Hub id."
)
@click.option(
    "--split", "splits", multiple=True, help="Split to process (default: all splits). Repeatable."
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    help="Dtype of the training run (default: bfloat16 on a GPU, float32 on a CPU).",
)
@click.option(
    "--attn-implementation",
    "attention",
    metavar="NAME",
    help="Attention implementation, as named by transformers, e.g. flash_attention_2.",
)
def ref_logprobs(prefs: str, **options: Any) -> None:
    """Precompute the reference model's log-probs for the pairs in DIR, and store them there.

    Training with `precompute_ref_log_probs: true` then does not load a reference model. An
    interrupted run resumes where it stopped. To use several GPUs, run
    `accelerate launch -m zephyr_fast ref-logprobs …`.
    """
    try:
        from zephyr_fast.train.ref_logprobs import compute
    except ImportError as error:
        raise InputError(
            "`ref-logprobs` needs the `train` extra: run `pip install '.[train]'` in a checkout "
            f"({error})"
        ) from error
    say(shown(compute.ref_logprobs(prefs, **options)))


@click.command(short_help="Estimate the cost of a training run.")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--config", required=True, help="Training config: bundled name or path of a YAML file."
)
@click.option(
    "--model",
    help="Model directory or config.json (default: the model of the training config).",
)
@click.option("--gpus", type=int, default=8, show_default=True, help="Number of GPUs.")
@click.option(
    "--mfu",
    type=float,
    default=0.4,
    show_default=True,
    help="Expected model FLOPs utilization, above 0 and at most 1.",
)
@click.option(
    "--peak-tflops",
    type=float,
    default=989.0,
    show_default=True,
    help="Peak TFLOP/s of one GPU. The default is an H100 in bfloat16.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the estimate as JSON.")
def estimate(folder: Path, as_json: bool, **options: Any) -> None:
    """Estimate the cost of training on DIR: steps, tokens, FLOPs and GPU hours."""
    import json
    from dataclasses import asdict

    from zephyr_fast import costs

    found = costs.estimate(folder, **options)
    if as_json:
        say_json(json.dumps(asdict(found), indent=1))
    else:
        say("\n".join(f"{label:<10} {shown(value)}" for label, value in costs.summary(found)))
