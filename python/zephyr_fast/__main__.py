"""`python -m zephyr_fast`: the command line, for those whose PATH does not have it."""

from zephyr_fast.cli import main

main()
