"""`zephyr-fast ref-logprobs` and `zephyr-fast estimate`: what is done before a training run."""

from pathlib import Path
from typing import Any

import click

from zephyr_fast._core import InputError
from zephyr_fast.printed import say, say_json, shown


@click.command("ref-logprobs")
@click.argument("prefs")
@click.option(
    "--model", required=True, help="Folder or Hub id of the model that training will start from."
)
@click.option(
    "--split", "splits", multiple=True, help="A split; may be repeated. Without: all of them."
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    help="That of the training run. Without: bfloat16 on a GPU.",
)
@click.option(
    "--attn-implementation",
    "attention",
    metavar="NAME",
    help="As transformers calls it, e.g. flash_attention_2.",
)
def ref_logprobs(prefs: str, **options: Any) -> None:
    """Store the reference model's log-probs beside the pairs of PREFS.

    Training with `precompute_ref_log_probs: true` then needs no reference model in memory. An
    interrupted run goes on where it was; with several GPUs:
    `accelerate launch -m zephyr_fast ref-logprobs …`.
    """
    try:
        from zephyr_fast.train.ref_logprobs import compute
    except ImportError as error:
        raise InputError(
            f"this needs the training extra: pip install 'zephyr-fast[train]' ({error})"
        ) from error
    say(shown(compute.ref_logprobs(prefs, **options)))


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--config", required=True, help="Training config: a packaged name or a path.")
@click.option("--model", help="Folder or config.json of the model. Without: the config's.")
@click.option("--gpus", type=int, default=8, show_default=True)
@click.option(
    "--mfu",
    type=float,
    default=0.4,
    show_default=True,
    help="Model FLOPs utilisation that you expect.",
)
@click.option(
    "--peak-tflops",
    type=float,
    default=989.0,
    show_default=True,
    help="Of one GPU; 989 is an H100 in bfloat16.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON.")
def estimate(folder: Path, as_json: bool, **options: Any) -> None:
    """Say what training on FOLDER will cost: steps, tokens, FLOPs, GPU hours."""
    import json
    from dataclasses import asdict

    from zephyr_fast import estimate as cost

    found = cost.estimate(folder, **options)
    if as_json:
        say_json(json.dumps(asdict(found), indent=1))
    else:
        say("\n".join(f"{name:<10} {shown(says)}" for name, says in cost.lines(found)))
