"""Entry point of `python -m zephyr_fast.train sft|dpo`, also under `accelerate launch -m`."""

import errno
import os
import sys
from importlib import import_module

from zephyr_fast._core import ConfigError, StorageError, ZephyrError
from zephyr_fast.dataset.product import Product
from zephyr_fast.exiting import flush_stdout, leave
from zephyr_fast.printed import never_fail_to_encode, said, shown, warn, without_secrets
from zephyr_fast.train.unsupported_keys import UNSUPPORTED_METHODS

USAGE = """Usage: python -m zephyr_fast.train {{{methods}}} [--config NAME_OR_PATH] --shards DIR … \
[--any_trl_argument VALUE …]

{summaries}

Every field of ModelConfig and of TRL's config for the method, such as SFTConfig, is an argument and
a key of the YAML file. Arguments override the file. Run {helps} for the list.

Bundled configs: {configs}

To launch with accelerate:
  accelerate launch --config_file FILE -m zephyr_fast.train …
FILE is your accelerate config or one of these in {directory}:
  {accelerate}"""


INTERRUPTED = 130
"""Exit code after Ctrl-C, the same as that of `zephyr-fast`."""


def main(arguments: list[str]) -> int:
    """Run one training method and return the exit code.

    Known errors print one line on stderr. Errors of torch keep their traceback.
    """
    never_fail_to_encode()
    try:
        code = _run(arguments)
        flush_stdout()
        return code
    except ZephyrError as error:
        warn(f"error: {_rank()}{shown(without_secrets(_last_line(error)))}")
        return int(error.exit_code)
    except (ImportError, NotImplementedError, RuntimeError, KeyError) as error:
        if not _is_unmet(error):
            raise
        text = str(error.args[0] if isinstance(error, KeyError) else error)
        warn(f"error: {_rank()}{shown(without_secrets(' '.join(text.split())))}")
        return int(ConfigError.exit_code)
    except KeyboardInterrupt:
        warn(
            f"{_rank()}interrupted; add `--resume_from_checkpoint true` to continue "
            "from the newest checkpoint, if there is one"
        )
        return INTERRUPTED
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):  # an error of stdout has no file name
            warn(f"error: {_rank()}{said(error)}")
            return StorageError.exit_code
        if error.filename is None:  # not a file, but e.g. a network or a device
            raise
        warn(f"error: {_rank()}{said(error)}")
        return StorageError.exit_code


def _is_unmet(error: Exception) -> bool:
    """Return whether a library reports a missing package or an unsupported combination.

    Their messages name the package or the option; other errors of Python and torch are bugs.
    """
    is_missing = isinstance(error, ImportError) or "to be installed" in str(error)
    is_unknown_metric = isinstance(error, KeyError) and "metric_for_best_model" in str(error)
    return is_missing or is_unknown_metric or type(error) is NotImplementedError


def _rank() -> str:
    """Return the prefix that names the process of a distributed run."""
    world, rank = os.environ.get("WORLD_SIZE", "1"), os.environ.get("RANK")
    return f"rank {shown(rank, 20)}: " if rank is not None and world != "1" else ""


def _run(arguments: list[str]) -> int:
    method, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if method in ("-h", "--help"):
        print(usage())
    elif method in [one.act for one in Product]:
        module = import_module(f"zephyr_fast.train.{method}")  # one module per training method
        module.main(*module.parse(rest))
    else:
        if reason := UNSUPPORTED_METHODS.get(method.lower().replace("-", "_")):
            raise ConfigError(f"`{method}` {reason}")
        expected = " or ".join(f"`{one.act}`" for one in Product)
        raise ConfigError(
            f"expected {expected}, not `{method}`; see `python -m zephyr_fast.train --help`"
        )
    return 0


def usage() -> str:
    """Return the help of `python -m zephyr_fast.train`."""
    from zephyr_fast.train.configs import CONFIGS, packaged

    files = sorted(path.name for path in (CONFIGS / "accelerate").glob("*.yaml"))
    return USAGE.format(
        methods=",".join(one.act for one in Product),
        summaries="\n".join(
            f"  {one.act}  {one.facts.training} of `zephyr-fast {one.command}`" for one in Product
        ),
        helps=" or ".join(f"`{one.act} --help`" for one in Product),
        configs=", ".join(packaged()),
        directory=CONFIGS / "accelerate",
        accelerate=", ".join(files),
    )


def _last_line(error: Exception) -> str:
    """Return the message of an error.

    torch wraps an error of a data loader's worker in a traceback, whose last line is the message.
    """
    text = str(error).strip()
    return text.splitlines()[-1].partition("Error: ")[2] if "Original Traceback" in text else text


if __name__ == "__main__":
    leave(main(sys.argv[1:]))
