"""Types of the Rust core. Checked against the compiled module by mypy.stubtest."""

from collections.abc import Callable, Sequence
from os import PathLike
from typing import TypeAlias

__all__ = [
    "ConfigError",
    "InputError",
    "IntegrityError",
    "InternalError",
    "LockedError",
    "MemoryLimitError",
    "NoRowsWrittenError",
    "OutputExistsError",
    "StorageError",
    "TooManyBadRowsError",
    "ZephyrError",
    "__version__",
    "canary",
    "describe",
    "encode",
    "explain",
    "names",
    "pack",
    "render",
    "resolve",
    "run",
    "unknown_template",
    "verify",
]

__version__: str

# Text, name, and dotted keys to override, each with its value as TOML.
_Recipe: TypeAlias = tuple[str, str, Sequence[tuple[str, str]]]

class ZephyrError(Exception):
    exit_code: int

class ConfigError(ZephyrError): ...
class TooManyBadRowsError(ZephyrError): ...
class NoRowsWrittenError(ZephyrError): ...
class InputError(ZephyrError): ...
class OutputExistsError(ZephyrError): ...
class LockedError(ZephyrError): ...
class IntegrityError(ZephyrError): ...
class StorageError(ZephyrError): ...
class MemoryLimitError(ZephyrError): ...
class InternalError(ZephyrError): ...

def run(
    command: str,
    recipe: _Recipe,
    inputs: Sequence[str | PathLike[str]],
    tokenizer: str | PathLike[str] | None,
    out: str | PathLike[str],
    *,
    threads: int | None = None,
    overwrite: bool = False,
    strict: bool = False,
    max_bad_rows: int | None = None,
    max_memory: int | None = None,
    on_progress: Callable[[str], object] | None = None,
) -> str: ...
def explain(
    command: str,
    recipe: _Recipe,
    tokenizer: str | PathLike[str] | None,
    row: bytes,
) -> str: ...
def render(by: tuple[str | PathLike[str], str], rows: str, prompt: bool) -> str: ...
def encode(
    by: tuple[str | PathLike[str], str, bool, bool],
    rows: Sequence[tuple[str, Sequence[tuple[str, str]]]],
) -> bytes: ...
def unknown_template(recipe: _Recipe, tokenizer: str | PathLike[str]) -> str | None: ...
def canary(stranger: str) -> None: ...
def names(kind: str) -> list[str]: ...
def describe(kind: str) -> list[tuple[str, str, str, str]]: ...
def pack(lengths: Sequence[int], seq_len: int) -> list[list[int]]: ...
def resolve(recipe: _Recipe, as_run: bool) -> str: ...
def verify(folder: str | PathLike[str]) -> str: ...
