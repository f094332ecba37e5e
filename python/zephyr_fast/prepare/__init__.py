"""Raw rows to a data set: `prep` and `binarize`, and what Python does around the engine.

run        the two functions: they collect what a run needs and start the engine
recipe     finds a data recipe, and lays settings over it
inputs     finds the files to read and the tokenizer, on this machine or on the Hub
canary     tries an unknown chat template in a process of its own first
progress   the counters of a run, and bars that show them
summary    the short table that a finished run prints
"""

from zephyr_fast.prepare.run import Paths, RunOptions, binarize, prep

__all__ = ["Paths", "RunOptions", "binarize", "prep"]
