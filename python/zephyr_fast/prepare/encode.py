"""`encode`: dialogues to token ids and labels in memory, for notebooks and other loaders."""

from collections.abc import Iterable, Mapping, Sequence
from json.encoder import encode_basestring_ascii as quoted
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zephyr_fast import _core
from zephyr_fast.prepare.inputs import find_tokenizer
from zephyr_fast.prepare.recipe import read
from zephyr_fast.prepare.run import check_template
from zephyr_fast.prepare.spool import json_line

if TYPE_CHECKING:
    import pyarrow as pa

Dialogue = Sequence[Mapping[str, Any]] | Mapping[str, Any]
"""A list of messages, or a row with the key `messages`, and `tools` if it has them."""


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

    # Any recipe that writes tokens: only its template is used.
    recipe = read("ultrachat", {"template.name": template})
    path = find_tokenizer(recipe, tokenizer, [])
    assert path is not None, "the recipe writes tokens"
    check_template(recipe, path)
    rows = "".join(_line(number, dialogue) for number, dialogue in enumerate(dialogues))
    stream = _core.encode((path, template, bos, text), rows)
    return pa.ipc.open_stream(pa.py_buffer(stream)).read_all()


def _line(number: int, dialogue: Dialogue) -> str:
    if isinstance(dialogue, Mapping):
        return json_line(dialogue, f"dialogue {number}").decode()
    messages = list(dialogue)
    try:
        # Five times as fast as the JSON encoder, whose text is the same.
        texts = [
            f'{{"role": {quoted(message["role"])}, "content": {quoted(message["content"])}}}'
            for message in messages
            if type(message) is dict and len(message) == 2
        ]
    except (TypeError, KeyError):
        texts = []
    if len(texts) == len(messages):
        return f'{{"messages": [{", ".join(texts)}]}}\n'
    return json_line({"messages": messages}, f"dialogue {number}").decode()
