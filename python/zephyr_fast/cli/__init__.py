"""The command line. Results go to stdout, everything else to stderr.

`main` is the entry point of `zephyr-fast`, `cli` the group of its commands. Each group of commands
is a file, which imports what a command runs only once it runs, so that `--help` is fast:

prepare    prep, binarize
inspect    verify
train      ref-logprobs, estimate
endpoints  endpoints
errors     the exit code and the message of everything that can go wrong
"""

from functools import partial

import click

from zephyr_fast._core import __version__
from zephyr_fast.cli.endpoints import endpoints
from zephyr_fast.cli.errors import exit_code, leave
from zephyr_fast.cli.inspect import verify
from zephyr_fast.cli.prepare import binarize, prep
from zephyr_fast.cli.train import estimate, ref_logprobs
from zephyr_fast.printed import never_fail_to_encode

_COMMANDS = [prep, binarize, ref_logprobs, verify, estimate, endpoints]
_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 120}


@click.group(commands=_COMMANDS, context_settings=_SETTINGS)
@click.version_option(__version__, prog_name="zephyr-fast")
def cli() -> None:
    """Raw chat and preference data to verified, packed token shards.

    Train on them with `accelerate launch -m zephyr_fast.train sft|dpo --shards FOLDER`.
    """


def main() -> None:
    """Runs the command line and exits with the code of what happened."""
    never_fail_to_encode()
    leave(exit_code(partial(cli, standalone_mode=False)))
