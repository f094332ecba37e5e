"""`python -m zephyr_fast.train sft|dpo --config NAME_OR_PATH --shards FOLDER …`, also under
`accelerate launch -m`.
"""

import errno
import os
import sys
from importlib import import_module

from zephyr_fast._core import ConfigError, StorageError, ZephyrError
from zephyr_fast.dataset.product import Product
from zephyr_fast.printed import never_fail_to_encode, said, shown, warn, without_secrets

USAGE = """Usage: python -m zephyr_fast.train {{{methods}}} [--config NAME_OR_PATH] --shards DIR … \
[--any_trl_argument VALUE …]

{summaries}

Every field of TRL's SFTConfig (or DPOConfig) and ModelConfig is an argument and a key of the YAML
file. Arguments override the file. Run {helps} for the list.

Bundled configs: {configs}

To launch with accelerate:
  accelerate launch --config_file FILE -m zephyr_fast.train …
FILE is your accelerate config or one of these in {directory}:
  {accelerate}"""


INTERRUPTED = 130
"""The exit code of Ctrl-C, as of `zephyr-fast`."""


def main(arguments: list[str]) -> int:
    """Runs one act; gives the exit code. Trouble of a known kind is one line on stderr; errors
    of torch keep their traceback.
    """
    never_fail_to_encode()
    try:
        code = _run(arguments)
        _flush()  # here, where a full disk can still be reported
        return code
    except ZephyrError as error:
        warn(f"error: {_rank()}{shown(without_secrets(_last_line(error)))}")
        return int(error.exit_code)
    except KeyboardInterrupt:
        warn(
            f"{_rank()}interrupted; add `--resume_from_checkpoint true` to continue "
            "from the newest checkpoint, if there is one"
        )
        return INTERRUPTED
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):  # stdout's own, too, which has no name
            warn(f"error: {_rank()}{said(error)}")
            return StorageError.exit_code
        if error.filename is None:  # not about a file: a network, a device of torch's
            raise
        warn(f"error: {_rank()}{said(error)}")
        return StorageError.exit_code


def _flush() -> None:
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        return


def _leave(code: int) -> None:
    """Ends the process. What stdout could not take is dropped, or Python would complain of it
    once more, with another exit code.
    """
    try:
        _flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def _rank() -> str:
    """Which process of a launch speaks."""
    world, rank = os.environ.get("WORLD_SIZE", "1"), os.environ.get("RANK")
    return f"rank {shown(rank, 20)}: " if rank is not None and world != "1" else ""


def _run(arguments: list[str]) -> int:
    method, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if method in ("-h", "--help"):
        print(_usage())
    elif method in [one.act for one in Product]:
        module = import_module(f"zephyr_fast.train.{method}")  # one module per training method
        module.main(*module.parse(rest))
    else:
        expected = " or ".join(f"`{one.act}`" for one in Product)
        raise ConfigError(
            f"expected {expected}, not `{method}`; see `python -m zephyr_fast.train --help`"
        )
    return 0


def _usage() -> str:
    from zephyr_fast.train.configs import CONFIGS, packaged

    files = sorted(path.name for path in (CONFIGS / "accelerate").glob("*.yaml"))
    return USAGE.format(
        methods=",".join(one.act for one in Product),
        summaries="\n".join(
            f"  {one.act}  {one.training} of `zephyr-fast {one.command}`" for one in Product
        ),
        helps=" or ".join(f"`{one.act} --help`" for one in Product),
        configs=", ".join(packaged()),
        directory=CONFIGS / "accelerate",
        accelerate=", ".join(files),
    )


def _last_line(error: Exception) -> str:
    """What the error says; of one raised in a worker process of a data loader, which torch wraps
    in a traceback, the end.
    """
    text = str(error).strip()
    return text.splitlines()[-1].partition("Error: ")[2] if "Original Traceback" in text else text


if __name__ == "__main__":
    _leave(main(sys.argv[1:]))
