"""The `zephyr-fast` command line. Results go to stdout, everything else to stderr.

`main` is the entry point of `zephyr-fast`, and `cli` is the group of its commands. Each file of
commands imports the code of a command only when it runs, so `--help` is fast:

prepare    prep, binarize
inspect    verify
recipe     recipe show, recipe keys
train      ref-logprobs, estimate
training   train, merge, chat
endpoints  endpoints
feedback   feedback collect, feedback report
generate   generate dialogues
evaluate   evaluate mt-bench, evaluate alpaca-eval
scores     evaluate leaderboard, evaluate score
results    how evaluations print their results
compare    compare, radar
options    the options that prep and binarize share
asking     the options that commands share which ask models
errors     the exit code and the message of every failure
"""

from functools import partial

import click

from zephyr_fast._core import __version__
from zephyr_fast.cli.compare import compare, radar
from zephyr_fast.cli.endpoints import endpoints
from zephyr_fast.cli.errors import exit_code
from zephyr_fast.cli.evaluate import evaluate
from zephyr_fast.cli.feedback import feedback
from zephyr_fast.cli.generate import generate
from zephyr_fast.cli.inspect import verify
from zephyr_fast.cli.prepare import COMMANDS
from zephyr_fast.cli.recipe import recipe
from zephyr_fast.cli.train import estimate, ref_logprobs
from zephyr_fast.cli.training import chat, merge, train
from zephyr_fast.dataset.product import Product
from zephyr_fast.exiting import leave
from zephyr_fast.printed import never_fail_to_encode

_COMMANDS = [
    *(*COMMANDS, train, ref_logprobs, merge, chat, verify, estimate, recipe),
    *(endpoints, generate, feedback, evaluate, compare, radar),
]
_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 120}


_HELP = f"""Turn raw chat and preference data into verified, packed token shards.

To train on them with several GPUs, run
`accelerate launch -m zephyr_fast.train {"|".join(one.act for one in Product)} …`.
"""


@click.group(commands=_COMMANDS, context_settings=_SETTINGS, help=_HELP)
@click.version_option(__version__, prog_name="zephyr-fast")
def cli() -> None:
    """The group of all commands."""


def main() -> None:
    """Run the command line and exit with the code of the outcome."""
    never_fail_to_encode()
    leave(exit_code(partial(cli, standalone_mode=False)))
