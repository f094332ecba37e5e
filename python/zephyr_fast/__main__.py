"""Entry point of `python -m zephyr_fast`, equivalent to the `zephyr-fast` command."""

from zephyr_fast.cli import main

main()
