"""The shapes of plain dialogues, slow and obvious, and what all shapes share."""

import itertools
from collections.abc import Callable
from typing import Any

from reference_pairs import number
from reference_rows import (
    FLAGS,
    OF_ANSWER,
    Answers,
    Refused,
    Written,
    check_fields,
    entries_of,
    is_one,
    is_told_by_a_word,
    list_of,
    messages_of,
    said_under,
    says,
)
from reference_tokens import Messages

Fields = dict[str, Any]
Said = tuple[Messages, Answers]

SYSTEM = ("system", "system_prompt")
USERS = ("user", "human", "prompter")
ASSISTANTS = ("assistant", "gpt", "bot", "model", "chatgpt", "bing", "bard")
TOOLS = ("tool", "function", "function_call", "function_response", "observation")
TOOLS += ("tool_call", "tool_response", "ipython")
SCORES = (
    ("score_chosen", "score_rejected"),
    ("chosen_score", "rejected_score"),
    ("chosen_rating", "rejected_rating"),
    ("chosen-rating", "rejected-rating"),
    ("chosen_avg_rating", "rejected_avg_rating"),
    ("chosen-avg-rating", "rejected-avg-rating"),
    ("rating_chosen", "rating_rejected"),
    ("reward_chosen", "reward_rejected"),
)


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def is_text(fields: Fields, *names: str) -> bool:
    return all(isinstance(fields.get(name), str) for name in names)


def there(fields: Fields, *names: str) -> bool:
    return all(fields.get(name) is not None for name in names)


def first_has(value: Any, field: str) -> bool:
    """Whether a list of objects is empty, or its first one has a field."""
    if not isinstance(value, list) or any(not isinstance(one, dict) for one in value):
        return False
    return not value or field in value[0]


def once(fields: Fields, name: str) -> Any:
    """The value of a field that must not be written twice."""
    if isinstance(fields, Written) and [key for key, _ in fields.entries].count(name) > 1:
        raise Refused("invalid_row")
    return fields.get(name)


def text(fields: Fields, name: str) -> str:
    value = once(fields, name)
    if not isinstance(value, str):
        raise Refused("invalid_row")
    return value


def maybe(fields: Fields, name: str) -> str:
    return text(fields, name) if fields.get(name) is not None else ""


def rating(fields: Fields, name: str) -> float | None:
    value = once(fields, name)
    if isinstance(value, bool | list | dict):
        raise Refused("invalid_row")
    try:
        return number(value)
    except ValueError:
        raise Refused("invalid_row") from None


def scores(fields: Fields) -> tuple[float | None, float | None]:
    for chosen, rejected in SCORES:
        found = rating(fields, chosen), rating(fields, rejected)
        if found != (None, None):
            return found
    return None, None


def two(chosen: str, rejected: str, found: tuple[float | None, float | None]) -> Answers:
    return [
        {"response": text, "side": side, "score": score}
        for text, side, score in zip((chosen, rejected), ("chosen", "rejected"), found, strict=True)
    ]


def after_system(prompt: str, context: Messages) -> Messages:
    """A system prompt before the messages, unless these begin with it."""
    if not prompt or context[:1] == [{"role": "system", "content": prompt}]:
        return context
    if context and context[0]["role"] == "system":
        raise Refused("invalid_row")
    return [{"role": "system", "content": prompt}, *context]


def checked(
    fields: Fields,
    *lists: str,
    flat: bool = True,
    assistants: tuple[str, ...] = ("assistant",),
) -> None:
    """Refuses fields that would be lost. A system prompt is read."""
    used = {key: value for key, value in fields.items() if key not in SYSTEM}
    check_fields(used, lists, assistants)
    worded = any(is_told_by_a_word(key, one, "answer", True) for key, one in entries_of(fields))
    if flat and (said_under(fields, OF_ANSWER) or worded):
        raise Refused("unsupported_field")


def after(fields: Fields, asked: Messages) -> Messages:
    """Messages after the system prompt and the earlier exchanges of a row."""
    turns: Messages = []
    history = fields.get("history")
    if says(history):
        for exchange in list_of(history, list):
            if len(exchange) != 2 or any(not isinstance(said, str) for said in exchange):
                raise Refused("invalid_row")
            turns += [user(exchange[0]), assistant(exchange[1])]
    prompts = [maybe(fields, name) for name in ("system", "system_prompt")]
    if all(prompts) and prompts[0] != prompts[1]:
        raise Refused("unsupported_field")
    return after_system(prompts[0] or prompts[1], [*turns, *asked])


def joined(fields: Fields, asked: str, *about: str) -> str:
    """A question, and the first of the columns about it that says anything."""
    said = next((said for said in (maybe(fields, name) for name in about) if said), "")
    parts = text(fields, asked), said
    return "\n\n".join(part for part in parts if part)


def flat(
    asked: str, about: tuple[str, str], answers: tuple[str, ...], either: bool = False
) -> Callable[[Fields], Said]:
    """A shape of rows with one question, in parts, and one answer."""

    def read(fields: Fields) -> Said:
        checked(fields)
        first, second = about
        is_about_alone = either and fields.get(asked) is None and fields.get(first) is not None
        if is_about_alone and isinstance(fields.get(first), list):
            check_fields({key: one for key, one in fields.items() if key not in SYSTEM}, (first,))
            said = [*messages_of(fields[first]), assistant(text(fields, answers[0]))]
            return after(fields, said), None
        names = (first, asked, second) if is_about_alone else (asked, *about)
        question = joined(fields, *names)
        answer = next((name for name in answers if fields.get(name) is not None), answers[0])
        return after(fields, [user(question), assistant(text(fields, answer))]), None

    return read


def spoken(value: Any) -> Messages:
    """Messages with `from` or `role`, and `value` or `content`."""
    turns: Messages = []
    if isinstance(value, list) and value and isinstance(value[0], str):
        said_by = itertools.cycle((user, assistant))
        return [say(said) for say, said in zip(said_by, list_of(value, str), strict=False)]
    for message in list_of(value, dict):
        names = []
        for pair_of in (("from", "role"), ("value", "content")):
            found = [name for name in pair_of if message.get(name) is not None]
            if len(found) != 1:
                raise Refused("invalid_row")
            names += found
        speaker, said = (text(message, name) for name in names)
        lower = "".join(letter.lower() if letter.isascii() else letter for letter in speaker)
        if lower in TOOLS:
            raise Refused("unsupported_field")
        role = speaker
        for known, ours in ((USERS, "user"), (ASSISTANTS, "assistant"), (("system",), "system")):
            role = ours if lower in known else role
        flags = [flag for flag in said_under(message, FLAGS) if role == "assistant"]
        is_left_out = bool(flags) and not is_one(flags[0])
        turns.append({"role": role, "content": said} | ({"trained": False} if is_left_out else {}))
    return turns


def sharegpt(fields: Fields) -> Said:
    lists = ("conversations", "conversation", "messages")
    checked(fields, *lists, flat=False, assistants=ASSISTANTS)
    name = next((name for name in lists if fields.get(name) is not None), lists[0])
    return after_system(maybe(fields, "system"), spoken(fields.get(name))), None


def capybara(fields: Fields) -> Said:
    checked(fields, "conversation", flat=False)
    turns = []
    for exchange in list_of(fields.get("conversation"), dict):
        turns += [user(text(exchange, "input")), assistant(text(exchange, "output"))]
    return after_system(maybe(fields, "system"), turns), None


def side(fields: Fields, name: str, say: Callable[[str], dict[str, str]]) -> Messages:
    """The messages of a column, or its text as one message."""
    if isinstance(fields.get(name), list):
        return messages_of(fields[name])
    return [say(text(fields, name))]


def prompt_completion(fields: Fields) -> Said:
    label = fields.get("label")
    if isinstance(label, bool | int) and label in (0, 1):
        raise Refused("unsupported_field")
    checked(fields, "prompt", "completion", "response")
    answer = "completion" if fields.get("completion") is not None else "response"
    turns = side(fields, "prompt", user) + side(fields, answer, assistant)
    return after(fields, turns), None


def replies_of(message: Fields) -> list[Fields]:
    replies = message.get("replies")
    found = list_of(replies, dict) if says(replies) else []
    return [reply for reply in found if reply.get("deleted") is not True]


def oasst_turn(message: Fields) -> dict[str, str]:
    role = text(message, "role")
    return {"role": {"prompter": "user"}.get(role, role), "content": text(message, "text")}


def oasst(fields: Fields) -> Said:
    check_fields(fields, ())
    message, turns = fields.get("prompt"), []
    if not isinstance(message, dict):
        raise Refused("invalid_row")
    while message is not None:
        turns.append(oasst_turn(message))
        ranks = [(rating(reply, "rank"), reply) for reply in replies_of(message)]
        ordered = sorted(ranks, key=lambda pair: float("inf") if pair[0] is None else pair[0])
        message = ordered[0][1] if ordered else None
    return turns, None


def tree_roles(message: Fields, *, deep: bool) -> list[str]:
    """The roles of the messages of a tree that are read: along the best replies, or the first
    message and its replies.
    """
    replies = replies_of(message)
    if not deep:
        return [text(one, "role") for one in (message, *replies)]
    ranks = [rating(reply, "rank") for reply in replies]
    ranked = [float("inf") if rank is None else rank for rank in ranks]
    below = tree_roles(replies[ranked.index(min(ranked))], deep=True) if replies else []
    return [text(message, "role"), *below]


def oasst_ranked(fields: Fields) -> Said:
    check_fields(fields, ())
    prompt = fields.get("prompt")
    if not isinstance(prompt, dict):
        raise Refused("invalid_row")
    answers = []
    for reply in replies_of(prompt):
        rank = rating(reply, "rank")
        score = None if rank is None else -rank
        answers.append({"response": oasst_turn(reply)["content"], "overall_score": score})
    return [oasst_turn(prompt)], answers
