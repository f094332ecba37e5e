"""Rows of any input with their places, and the dialogue that each shape of row holds: the
reading half of the slow twin.
"""

import gzip
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from reference_tokens import Messages


@dataclass
class Row:
    """A raw row and where it stands; in columnar files `offset` is its number and `length` 0."""

    raw: bytes | dict[str, Any]
    offset: int
    length: int
    line: int


Answers = list[dict[str, Any]] | None
"""Answers to be compared, each with its text as `response`; None where the messages hold the
last word.
"""

VERDICTS = {
    **dict.fromkeys(
        ("invalid_utf8", "invalid_json", "invalid_row", "too_many_messages"), "quarantined"
    ),
    **dict.fromkeys(("empty_dialogue", "empty_turn", "roles_out_of_order"), "dropped"),
    **dict.fromkeys(
        ("ends_with_user", "ends_with_assistant", "phrase", "excluded_source"), "dropped"
    ),
    **dict.fromkeys(("too_few_turns", "too_many_turns", "too_short", "too_long"), "dropped"),
    **dict.fromkeys(
        ("too_few_completions", "no_scores", "tie", "identical_completions"), "dropped"
    ),
    **dict.fromkeys(("no_assistant_tokens", "prompt_too_long"), "dropped"),
    **dict.fromkeys(("unsupported_field", "control_token", "prompt_not_prefix"), "quarantined"),
    **dict.fromkeys(("empty_chosen", "rejected_scores_higher", "contradicts_row"), "dropped"),
    "identical_when_truncated": "dropped",
    "multi_message_completion": "quarantined",
}
"""Every reason that the twin gives, with what becomes of the row."""


class Refused(Exception):
    """Ends a row's walk, for one of the reasons in `VERDICTS`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason, self.outcome = reason, VERDICTS[reason]


def read(path: Path) -> list[Row]:
    """Every row of an input with its place in the decompressed stream."""
    if path.suffix == ".parquet":
        return [
            Row(raw, number, 0, number + 1)
            for number, raw in enumerate(pq.read_table(path).to_pylist())
        ]
    rows, offset = [], 0
    for number, line in enumerate(plain(path).split(b"\n"), start=1):
        skipped = 3 if number == 1 and line.startswith(b"\xef\xbb\xbf") else 0
        if line[skipped:].strip(b" \t\r\n\x0b\x0c"):
            rows.append(Row(line[skipped:], offset + skipped, len(line) - skipped, number))
        offset += len(line) + 1
    return rows


def plain(path: Path) -> bytes:
    """The decompressed stream of an input."""
    if path.suffix == ".gz":
        return gzip.decompress(path.read_bytes())
    if path.suffix == ".zst":
        with pa.input_stream(str(path), compression="zstd") as stream:
            return bytes(stream.read())
    return path.read_bytes()


def every(step: int, path: Path, folder: Path) -> Path:
    """Every `step`-th line of a compressed set, as a file in `folder`; the whole set if
    ZEPHYR_FAST_LONG=1.
    """
    if step == 1 or os.environ.get("ZEPHYR_FAST_LONG") == "1":
        return path
    part = folder / path.name.removesuffix(path.suffix)
    part.write_bytes(b"\n".join(plain(path).split(b"\n")[::step]))
    return part


class Written(dict[str, Any]):
    """An object of JSON that also keeps its entries as they are written, in case a key repeats."""

    def __init__(self, entries: list[tuple[str, Any]]) -> None:
        super().__init__(entries)
        self.entries = entries


def fields_of(raw: bytes | dict[str, Any]) -> dict[str, Any]:
    if isinstance(raw, dict):
        return raw
    try:
        fields = json.loads(raw.decode("utf-8"), object_pairs_hook=Written)
    except UnicodeDecodeError:
        raise Refused("invalid_utf8") from None
    except ValueError:
        raise Refused("invalid_json") from None
    if not isinstance(fields, dict):
        raise Refused("invalid_row")
    return fields


MEDIA_WORDS = {"image", "images", "audio", "audios", "video", "videos"}
MEDIA_WORDS |= {"attachment", "attachments"}
WEIGHT_WORDS, MASK_WORDS = {"weight", "weights"}, {"mask", "masks", "masked"}
TRAINED_WORDS = {"train", "trained", "training", "trainable", "loss"}
MEDIA = MEDIA_WORDS | {"imageurl", "inputaudio"}
REASONING = {"reasoningcontent", "reasoningdetails", "reasoning"}
REASONING |= {"thinkingcontent", "thinking", "thoughts", "thought"}
CALLS = {"toolcalls", "functioncalls"}
CALL = {"toolcall", "functioncall", "toolcallid", "toolplan", "toolresults"}
TOOLS = {"tools", "functions", "availabletools", "tooldefinitions", "documents"}
SYSTEM = {"system", "systemprompt", "systemmessage", "systeminstruction", "developer"}
FLAGS_OF_ROW = {"weight", "lossweight", "lossscale", "train", "trained", "trainable"}
FLAGS = FLAGS_OF_ROW | {"training", "loss"}
MASKS = {"mask", "masked"}
OF_ANSWER = MEDIA | REASONING | CALLS | CALL
OF_MESSAGE = OF_ANSWER | TOOLS | MASKS | {"name", "refusal"}
OF_MESSAGE |= {"ignore", "traindetail", "trainingdetail"}
OF_ROW = MEDIA | TOOLS | CALLS | MASKS | {"chattemplatekwargs"}


def plain_key(key: str) -> str:
    """A key without what sets its spellings apart: `tool_calls`, `toolCalls`, `Tool-Calls`."""
    return key.lower().replace("_", "").replace("-", "")


def words_of(key: str) -> list[str]:
    """The words of a name: `train_on_turn`, `lossMask`."""
    spaced = re.sub("(?<=[a-z])(?=[A-Z])", "_", key.strip("_-"))
    return (
        [word.lower() for word in re.split("[_-]+", spaced)] if len(key.strip("_-")) <= 64 else []
    )


def is_told_by_a_word(key: str, value: Any, level: str, is_trained: bool) -> bool:
    """Whether a name of several words decides by its last one, or in a message by its first, and
    its value says more than that everything is as usual.
    """
    words = words_of(key)
    named = {"row": OF_ROW | FLAGS_OF_ROW, "message": OF_MESSAGE | FLAGS, "answer": OF_ANSWER}[
        level
    ]
    if len(words) < 2 or not says(value) or plain_key(key) in named:
        return False
    places = {words[-1], words[0]} if level == "message" else {words[-1]}
    flags = {"row": WEIGHT_WORDS, "message": WEIGHT_WORDS | TRAINED_WORDS, "answer": set[str]()}
    if places & flags[level]:
        return not (is_one(value) and is_trained)
    if places & MASK_WORDS and level != "answer":
        return plain_key(key) != "attentionmask" or level == "message"
    return bool(places & MEDIA_WORDS) and not (value is False or (value == 0 and value != ""))


def entries_of(value: dict[str, Any]) -> list[tuple[str, Any]]:
    return value.entries if isinstance(value, Written) else list(value.items())


def said_under(value: dict[str, Any], names: set[str]) -> list[Any]:
    """What an object says under such names, each in any spelling."""
    return [one for key, one in entries_of(value) if plain_key(key) in names and says(one)]


def says(value: Any) -> bool:
    """Whether a value is more than null, an empty text, or a container of nothing else."""
    if isinstance(value, dict):
        return any(says(one) for _, one in entries_of(value))
    if isinstance(value, list):
        return any(map(says, value))
    return value is not None and value != ""


def objects_of(value: Any) -> list[dict[str, Any]]:
    """The objects of a list, whatever else is in it."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def is_one(flag: Any) -> bool:
    return not isinstance(flag, str) and bool(flag == 1)


def is_flag(flag: Any) -> bool:
    return isinstance(flag, int | float) and flag in (0, 1)


def check_message(message: dict[str, Any], assistants: tuple[str, ...] = ("assistant",)) -> None:
    """The templates that rows are rendered with here write role and content alone."""
    flags = {is_one(flag) for flag in said_under(message, FLAGS)}
    speaker = message.get("role") or (message.get("from") if len(assistants) > 1 else None)
    may_be_trained = isinstance(speaker, str) and speaker.lower() in assistants
    is_named = message.get("role") == "assistant" or message.get("from") == "gpt"
    if (
        said_under(message, OF_MESSAGE)
        or any(is_told_by_a_word(key, one, "message", is_named) for key, one in entries_of(message))
        or any(not is_flag(flag) for flag in said_under(message, FLAGS))
        or len(flags) > 1
        or (True in flags and not may_be_trained)
        or isinstance(message.get("content"), list)
    ):
        raise Refused("unsupported_field")


def check_fields(
    fields: dict[str, Any],
    lists: tuple[str, ...],
    assistants: tuple[str, ...] = ("assistant",),
) -> None:
    """Refuses a row that says something else without a field that its shape does not use. The
    messages are in `lists`.
    """
    starts = [
        fields[name][0] for name in lists if isinstance(fields.get(name), list) and fields[name]
    ]
    first = next((start for start in starts if isinstance(start, dict)), {})
    said = [first.get("content")] if first.get("role") == "system" else []
    if (
        said_under(fields, OF_ROW)
        or any(is_told_by_a_word(key, one, "row", True) for key, one in entries_of(fields))
        or not all(is_one(flag) for flag in said_under(fields, FLAGS_OF_ROW))
        or any(
            [prompt] != said or not isinstance(prompt, str) for prompt in said_under(fields, SYSTEM)
        )
    ):
        raise Refused("unsupported_field")
    for name in lists:
        for message in objects_of(fields.get(name)):
            check_message(message, assistants)


def check_tools(messages: Messages) -> None:
    """Refuses a dialogue with tools when it is rendered: the templates here do not write them."""
    if any("has_tools" in message for message in messages):
        raise Refused("unsupported_field")


def list_of(value: Any, kind: type) -> list[Any]:
    if not isinstance(value, list) or any(not isinstance(one, kind) for one in value):
        raise Refused("invalid_row")
    if len(value) > 1024:
        raise Refused("too_many_messages")
    return value


def messages_of(value: Any) -> Messages:
    messages = list_of(value, dict)
    if any(
        not isinstance(message.get(name), str)
        for message in messages
        for name in ("role", "content")
    ):
        raise Refused("invalid_row")
    return [
        {"role": message["role"], "content": message["content"]} | _untrained(message)
        for message in messages
    ]


def _untrained(message: dict[str, Any]) -> dict[str, Any]:
    """Notes that an answer is not trained."""
    flags = said_under(message, FLAGS) if message["role"] == "assistant" else []
    return {"trained": False} if flags and not is_one(flags[0]) else {}


def alternating(fields: dict[str, Any]) -> tuple[Messages, Answers]:
    check_fields(fields, ())
    data = list_of(fields.get("data"), str)
    return [
        {"role": "assistant" if n % 2 else "user", "content": text} for n, text in enumerate(data)
    ], None


def listed(fields: dict[str, Any]) -> tuple[Messages, Answers]:
    tools = fields.get("tools")
    has_tools = bool(objects_of(tools)) and objects_of(tools) == tools and says(tools)
    rest = {name: one for name, one in fields.items() if name != "tools"} if has_tools else fields
    check_fields(rest, ("messages", "prompt"))
    messages, prompt = messages_of(fields.get("messages")), fields.get("prompt")
    messages = [message | {"has_tools": True} if has_tools else message for message in messages]
    if isinstance(prompt, list) and says(prompt):
        if any(not isinstance(message, dict) for message in prompt):
            raise Refused("unsupported_field")
        asked = [{name: message.get(name) for name in ("role", "content")} for message in prompt]
        begun = [{name: message[name] for name in ("role", "content")} for message in messages]
        if begun[: len(asked)] != asked:
            raise Refused("unsupported_field")
    return messages, None


def completions(fields: dict[str, Any]) -> tuple[Messages, Answers]:
    check_fields(fields, ())
    if any(
        said_under(answer, OF_ANSWER)
        or any(is_told_by_a_word(key, one, "answer", True) for key, one in entries_of(answer))
        for answer in objects_of(fields.get("completions"))
    ):
        raise Refused("unsupported_field")
    if not isinstance(fields.get("instruction"), str):
        raise Refused("invalid_row")
    answers = list_of(fields.get("completions"), dict)
    if any(not isinstance(answer.get("response"), str | None) for answer in answers):
        raise Refused("invalid_row")
    prompt = {"role": "user", "content": fields["instruction"]}
    return [prompt], [{**answer, "response": answer.get("response") or ""} for answer in answers]


def pair(fields: dict[str, Any]) -> tuple[Messages, Answers]:
    check_fields(fields, ("prompt", "chosen", "rejected"))
    chosen, rejected = messages_of(fields.get("chosen")), messages_of(fields.get("rejected"))
    ends = [messages[-1:] for messages in (chosen, rejected)]
    if any(not end or end[0]["role"] != "assistant" for end in ends):
        raise Refused("invalid_row")
    if any("trained" in end[0] for end in ends):
        raise Refused("unsupported_field")
    if chosen[:-1] != rejected[:-1]:
        raise Refused("multi_message_completion")
    context, prompt = chosen[:-1], fields.get("prompt")
    if isinstance(prompt, list) and says(prompt):
        asked = messages_of(prompt)
        if context and context[: len(asked)] != asked:
            raise Refused("unsupported_field")
        context = context or asked
    elif says(prompt):
        asked_by_user = [turn["content"].strip() for turn in context if turn["role"] == "user"]
        if not isinstance(prompt, str) or prompt.strip() not in asked_by_user:
            raise Refused("unsupported_field")
    return context, [{"response": end[0]["content"]} for end in ends]
