"""Columns beside those that a shape reads, slow and obvious: a part of the question or the answer
must not be lost.
"""

from typing import Any

from reference_dialogues import Fields
from reference_rows import Answers, Refused, entries_of, plain_key, says
from reference_tokens import Messages

QUESTION = {"prompt", "question", "query", "instruction", "input", "context", "passage"}
QUESTION |= {"history", "choices", "options"}
ANSWER = {"answer", "response", "output", "completion", "solution", "rationale", "explanation"}
DIALOGUE = {"messages", "conversations", "conversation"}
OF_PARTS = ("alpaca", "dolly", "prompt_completion", "question_answer", "oasst")
OF_MESSAGES = ("messages", "sharegpt", "capybara", "alternating")


def read_by(shape: str, fields: Fields) -> set[str]:
    """The columns that may be parts and that a shape reads in a row."""

    def first(*names: str) -> set[str]:
        there = [name for name in names if fields.get(name) is not None]
        return set(there[:1])

    def until_said(*names: str) -> set[str]:
        said = [number for number, name in enumerate(names) if fields.get(name)]
        return set(names[: said[0] + 1] if said else names)

    prompts = ("prompt", "question", "instruction")
    asked = next(iter(first(*prompts)), "input")
    is_text = isinstance(fields.get(asked), str)
    is_joined = is_text and not fields[asked].startswith(("\n\nHuman:", "\n\nAssistant:"))
    prompt = set() if isinstance(fields.get("prompt"), str) else {"prompt"}
    is_input_alone = fields.get("instruction") is None
    about = ("instruction", "context") if is_input_alone else ("input", "context")
    return {
        "completions": {"instruction"},
        "pair": {"prompt"},
        "text_pair": {"history", *prompts, *(["input"] if is_joined else [])},
        "nectar": {"history", "prompt"},
        "helpsteer": first("prompt", "context"),
        "shp": {"history"},
        "pku": {"history", "prompt"},
        "openai_pair": {"input"},
        "oasst_ranked": {"prompt"},
        "messages": {"messages", *prompt},
        "sharegpt": first("conversations", "conversation", "messages"),
        "capybara": {"conversation"},
        "alpaca": {"history", "output", "instruction", "input", *until_said(*about)},
        "dolly": {"history", "response", "instruction", *until_said("context", "input")},
        "prompt_completion": {"history", "prompt", *first("completion", "response")},
        "question_answer": {
            *("history", "question", *first("answer", "response")),
            *until_said("context", "input"),
        },
        "oasst": {"prompt"},
    }.get(shape, set())


def texts_of(value: Any) -> list[str]:
    """Every text and number in a value, but not whose or of which type it is."""
    if isinstance(value, dict):
        inner = [one for key, one in value.items() if key not in ("role", "from", "type")]
        return [text for one in inner for text in texts_of(one)]
    if isinstance(value, list):
        return [text for one in value for text in texts_of(one)]
    return [] if value is None or isinstance(value, bool) else [str(value).strip()]


def is_in(text: str, message: str) -> bool:
    return message.strip() == text or (len(text.encode()) >= 20 and text in message)


def check_unread(shape: str | None, fields: Fields, context: Messages, answers: Answers) -> None:
    """Refuses a row that would lose a part."""
    if shape is None:
        raise Refused("invalid_row")
    read = read_by(shape, fields)
    said = [message["content"] or "" for message in context]
    said += [answer["response"] for answer in answers or []]
    needed = set(QUESTION)
    if shape in OF_PARTS or shape in OF_MESSAGES:
        needed |= DIALOGUE
    if shape in OF_PARTS or (
        shape in OF_MESSAGES and (not context or context[-1]["role"] != "assistant")
    ):
        needed |= ANSWER
    for key, value in entries_of(fields):
        if plain_key(key) not in needed or key in read or not says(value):
            continue
        if not all(not text or any(is_in(text, one) for one in said) for text in texts_of(value)):
            raise Refused("unsupported_field")
