"""`encode`: dialogues to token ids and labels in memory, for notebooks and other loaders."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zephyr_fast import _core
from zephyr_fast._core import InputError
from zephyr_fast.prepare.inputs import find_tokenizer
from zephyr_fast.prepare.recipe import read
from zephyr_fast.prepare.run import check_template
from zephyr_fast.prepare.spool import json_line
from zephyr_fast.printed import shown
from zephyr_fast.untrusted.bounded import is_unicode

if TYPE_CHECKING:
    import pyarrow as pa

Dialogue = Sequence[Mapping[str, Any]] | Mapping[str, Any]
"""A list of messages, or a row with the key `messages`, and `tools` if it has them."""

_Read = tuple[str, list[tuple[str, str]]]
"""A dialogue for the core: as JSON, or if that is empty, the role and content of its messages."""


def encode(
    dialogues: Iterable[Dialogue],
    tokenizer: str | Path,
    template: str = "tokenizer",
    *,
    bos: bool = False,
    text: bool = False,
) -> "pa.Table":
    """Render dialogues with a chat template and tokenize them.

    Ids and labels equal those of `apply_chat_template(…, return_assistant_tokens_mask=True)` in
    `transformers`. Unlike there, the template needs no `{% generation %}` marks. Nothing is
    cleaned or truncated. The tokenizer of the last call is kept, and is loaded again if its files
    have changed.

    Args:
        dialogues: Each a list of messages (`{"role": …, "content": …}`), or a row with `messages`
            and, if it has them, `tools` and `chat_template_kwargs`.
        tokenizer: Directory, tokenizer.json, Hub id, or "sample".
        template: Name of a bundled template, the path of a .jinja file, or "tokenizer" for the
            tokenizer's own.
        bos: Whether to start with the tokenizer's BOS also if the template does not write it, as
            `prep` does.
        text: Whether to add the rendered text.

    Returns:
        A table with one row per dialogue, in their order: `input_ids` list<int32>, `labels`
        list<int32> of the same lengths (-100 outside of assistant messages), and `text` string if
        requested.

    Raises:
        ConfigError: The template is invalid or cannot be found.
        InputError: The tokenizer cannot be read, or a dialogue cannot be encoded. The message
            gives its index.

    Example:
        >>> dialogue = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes."}]
        >>> table = encode([dialogue], "sample", "zephyr", text=True)
        >>> table["text"][0].as_py()
        '<|user|>\\nHi</s>\\n<|assistant|>\\nYes.</s>\\n'
    """
    import pyarrow as pa

    if isinstance(dialogues, Mapping) or not _is_list(dialogues):
        raise InputError(
            f"`dialogues` is {type(dialogues).__name__}, expected an iterable of dialogues; for "
            "one dialogue, pass a list with it"
        )
    # Any recipe that writes tokens: only its template is used.
    recipe = read("ultrachat", {"template.name": template})
    path = find_tokenizer(recipe, tokenizer, [])
    assert path is not None, "the recipe writes tokens"
    check_template(recipe, path)
    rows = [_row(number, dialogue) for number, dialogue in enumerate(dialogues)]
    by = (path, template, bos, text)
    try:
        stream = _encoded(by, rows)
    except InputError as error:
        raise InputError(_with_surrogate(str(error), rows)) from None
    return pa.ipc.open_stream(pa.py_buffer(stream)).read_all()


def _encoded(by: tuple[Path, str, bool, bool], rows: list[_Read]) -> bytes:
    try:
        return _core.encode(by, rows)
    except UnicodeEncodeError:  # a text with half a character: the refusal names its dialogue
        for number, (_, messages) in enumerate(rows):
            if messages:
                whole = [{"role": role, "content": content} for role, content in messages]
                rows[number] = (_json(number, whole), [])
        return _core.encode(by, rows)


def _with_surrogate(said: str, rows: list[_Read]) -> str:
    """Return the error of the core. If its cause is a lone surrogate, the text that has it is named
    instead: the core only sees an escape that is not valid JSON.
    """
    failed = re.match(
        r"(cannot encode dialogue (\d+): )(invalid_json|invalid_row.*expected text$)", said
    )
    text = rows[int(failed[2])][0] if failed else ""
    found = next(_not_unicode(json.loads(text), ""), None) if text else None
    if failed is None or found is None:
        return said
    return f"{failed[1]}invalid_json: `{found}` is not valid Unicode: it has a lone surrogate"


def _not_unicode(value: object, path: str) -> Iterator[str]:
    """Yield the paths of texts with a lone surrogate, such as `messages[0].content`."""
    if isinstance(value, str) and not is_unicode(value):
        yield path
    elif isinstance(value, dict):
        for name, member in value.items():
            within = f"{path}.{shown(name, 60)}".removeprefix(".")
            yield from _not_unicode(member, within) if is_unicode(name) else (within,)
    elif isinstance(value, list):
        for index, element in enumerate(value):
            yield from _not_unicode(element, f"{path}[{index}]")


def _row(number: int, dialogue: Dialogue) -> _Read:
    """Return a dialogue as the core reads it: usual messages unchanged, all else as JSON."""
    if type(dialogue) is list:
        messages = [
            (message["role"], message["content"])
            for message in dialogue
            if type(message) is dict and message.keys() == _USUAL
        ]
        if len(messages) == len(dialogue) and all(
            type(role) is str and type(content) is str for role, content in messages
        ):
            return "", messages
    return _json(number, dialogue), []


def _json(number: int, dialogue: Dialogue) -> str:
    if not _is_list(dialogue):
        raise InputError(
            f"cannot encode dialogue {number}: it is {type(dialogue).__name__}, expected a list of "
            "messages or a row with `messages`"
        )
    row = dialogue if isinstance(dialogue, Mapping) else {"messages": list(dialogue)}
    return json_line(row, f"dialogue {number}").decode()


def _is_list(value: object) -> bool:
    """Whether a value can be iterated and is not text."""
    try:
        iter(value)  # type: ignore[call-overload]
    except TypeError:
        return False
    return not isinstance(value, str | bytes)


_USUAL = {"role", "content"}
"""The members of most messages."""
