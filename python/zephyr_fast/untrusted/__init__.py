"""Checks on bytes, names and numbers from others, before other code uses them.

bounded    reads small files and JSON, with limits on size, width and depth
child      starts child processes without rights, for work that a hostile file may end
limits     rejects counts that are out of range
matching   expands file patterns, and terminates on any directory tree
message    reads Arrow messages of zephyr-fast's layouts only (needs numpy)

This package does not know the structure of a dataset. Its callers pass what they expect.
"""
