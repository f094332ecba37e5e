"""What a test gives to a Python process that it starts: the paths of the package and of the
tests.
"""

import os
from pathlib import Path

import zephyr_fast

TESTS = Path(__file__).parent
PACKAGE = Path(zephyr_fast.__file__).parents[1]
PYTHONPATH = os.pathsep.join(str(path) for path in (PACKAGE, TESTS, TESTS / "reference"))
