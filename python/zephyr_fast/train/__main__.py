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

USAGE = """usage: python -m zephyr_fast.train {either} [--config NAME_OR_PATH] --shards FOLDER \
[--any_trl_argument VALUE …]

{acts}

Every field of TRL's SFTConfig or DPOConfig and ModelConfig is an argument, and a key of the YAML \
file; the command
line wins. {helps} list them. Packaged configs: {configs}

Under accelerate: accelerate launch --config_file FILE -m zephyr_fast.train …, with a file of your \
own or one of
{folder}: {accelerate}"""


INTERRUPTED = 130
"""The exit code of Ctrl-C, as of `zephyr-fast`."""


def main(arguments: list[str]) -> int:
    """Runs one act; gives the exit code. Trouble of a known kind is one line on stderr; errors
    of torch keep their traceback.
    """
    never_fail_to_encode()
    try:
        code = _act(arguments)
        _flush()  # here, where a full disk can still be reported
        return code
    except ZephyrError as error:
        warn(f"error: {_rank()}{shown(without_secrets(_last_line(error)))}")
        return int(error.exit_code)
    except KeyboardInterrupt:
        warn(
            f"{_rank()}interrupted; `--resume_from_checkpoint true` goes on from the newest "
            "checkpoint, if there is one"
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


def _act(arguments: list[str]) -> int:
    from zephyr_fast.train.configs import CONFIGS, packaged

    act, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if act in ("-h", "--help"):
        files = ", ".join(sorted(path.name for path in (CONFIGS / "accelerate").glob("*.yaml")))
        print(
            USAGE.format(
                either="|".join(one.act for one in Product),
                acts="\n".join(
                    f"{one.act}: {one.training} of `zephyr-fast {one.command}`" for one in Product
                ),
                helps=" and ".join(f"`{one.act} --help`" for one in Product),
                configs=", ".join(packaged()),
                folder=CONFIGS / "accelerate",
                accelerate=files,
            )
        )
    elif act in [one.act for one in Product]:
        module = import_module(f"zephyr_fast.train.{act}")  # each act is a module of this name
        module.main(*module.parse(rest))
    else:
        acts = " or ".join(f"`{one.act}`" for one in Product)
        raise ConfigError(
            f"say what to train: {acts}, not `{act}`; see `python -m zephyr_fast.train --help`"
        )
    return 0


def _last_line(error: Exception) -> str:
    """What the error says; of one raised in a worker process of a data loader, which torch wraps
    in a traceback, the end.
    """
    text = str(error).strip()
    return text.splitlines()[-1].partition("Error: ")[2] if "Original Traceback" in text else text


if __name__ == "__main__":
    _leave(main(sys.argv[1:]))
