"""The filters, slow and obvious: each looks at a dialogue's messages and at the answers that are
yet to be picked.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import regex

from reference_rows import Answers, Refused
from reference_tokens import Messages

LETTER = r"[\p{Alphabetic}\p{N}]"
SPACE = r"\p{White_Space}"
CONJUNCTIONS = "and|as|because|but|however|since|so|that|though|unfortunately|while|yet"
CLAUSE = regex.compile(
    rf"(?:\A|[,;:(—–….!?]|(?:\A|{SPACE})(?:{CONJUNCTIONS})){SPACE}*\Z", regex.IGNORECASE
)


def structure(table: dict[str, Any], context: Messages, answers: Answers) -> None:
    """Looks at the messages alone, and at whether answers are to follow them."""
    order = table.get("order", "strict")
    if order not in ("strict", "any"):
        raise NotImplementedError(f"order = {order!r}")
    if order == "any":
        return _any_order(context, answers)
    roles = [message["role"] for message in context]
    spoken = roles[1:] if roles[:1] == ["system"] else roles
    if not spoken:
        raise Refused("empty_dialogue")
    if any(regex.fullmatch(r"\p{White_Space}*", message["content"]) for message in context):
        raise Refused("empty_turn")
    if any(role != ("assistant" if place % 2 else "user") for place, role in enumerate(spoken)):
        raise Refused("roles_out_of_order")
    if (spoken[-1] == "user") != (answers is not None):
        raise Refused("ends_with_user" if answers is None else "ends_with_assistant")


def _any_order(context: Messages, answers: Answers) -> None:
    roles = [message["role"] for message in context]
    if answers is None and "assistant" in roles:
        while context[-1]["role"] != "assistant":
            context.pop()
    roles = [message["role"] for message in context]
    if set(roles) <= {"system", "developer"}:
        raise Refused("empty_dialogue")
    if any(regex.fullmatch(r"\p{White_Space}*", message["content"]) for message in context):
        raise Refused("empty_turn")
    if set(roles) - {"system", "developer", "user", "assistant", "tool"}:
        raise Refused("roles_out_of_order")
    if (roles[-1] == "assistant") != (answers is None):
        raise Refused("ends_with_user" if answers is None else "ends_with_assistant")


def length(table: dict[str, Any], context: Messages, answers: Answers) -> None:
    """Judges the dialogue once with each of the answers behind it, or as it is, where it has
    none.
    """
    said = [message["content"] for message in context]
    for texts in [[*said, answer["response"]] for answer in answers or []] or [said]:
        turns, chars = len(texts), sum(map(len, texts))
        if turns < table.get("turns_min", 0):
            raise Refused("too_few_turns")
        if turns > table.get("turns_max", turns):
            raise Refused("too_many_turns")
        if chars < table.get("chars_min", 0):
            raise Refused("too_short")
        if chars > table.get("chars_max", chars):
            raise Refused("too_long")


def phrases(table: dict[str, Any], context: Messages, answers: Answers) -> None:
    """Refuses what the assistant says with a phrase in it, or cuts the messages where the recipe
    wants that.
    """
    drop = table.get("drop", "dialogue")
    if drop not in ("dialogue", "tail") or (drop == "tail" and answers is not None):
        raise NotImplementedError(f"drop = {drop!r}")
    if not phrases_in(table, context, answers):
        return
    places = [
        place
        for place in range(len(context))
        if phrases_in(table, context[place : place + 1], None)
    ]
    before = context[: max(0, min(places, default=0) - 1)]
    if drop == "dialogue" or all(message["role"] != "assistant" for message in before):
        raise Refused("phrase")
    context[:] = before


def phrases_in(table: dict[str, Any], context: Messages, answers: Answers) -> set[str]:
    """The phrases that count in what the assistant says, in its messages or any of the answers."""
    said = [message["content"] for message in context if message["role"] == "assistant"]
    said += [answer["response"] for answer in answers or []]
    at, quotes = table.get("at", "anywhere"), table.get("quotes", "any")
    if at not in ("anywhere", "opening") or quotes not in ("any", "exact"):
        raise NotImplementedError(f"at = {at!r}, quotes = {quotes!r}")
    if at == "opening":
        said = [sentence for text in said for sentence in _opening(text)]
    return {
        phrase
        for phrase in table.get("phrases", [])
        for text in said
        for found in _pattern(phrase, quotes).finditer(_flat(text, quotes), overlapped=True)
        if at == "anywhere" or CLAUSE.search(_flat(text, quotes)[: found.start()])
    }


def _opening(text: str) -> list[str]:
    """The first two sentences."""
    parts = regex.split(rf"(?<=[.!?])(?={SPACE})|\n", text)
    return [part for part in parts if regex.search(rf"[^{SPACE}]", part)][:2]


FILTERS: dict[str, Callable[[dict[str, Any], Messages, Answers], None]] = {
    "structure": structure,
    "length": length,
    "phrases": phrases,
}


@cache
def _pattern(phrase: str, quotes: str) -> regex.Pattern[str]:
    return regex.compile(rf"(?<!{LETTER}){regex.escape(_flat(phrase, quotes))}(?!{LETTER})")


def _flat(text: str, quotes: str) -> str:
    """Straight quotes unless exact ones are wanted, single spaces, and small ASCII letters: one
    spelling of a phrase for all.
    """
    straight = text.translate(str.maketrans("’‘“”", "''\"\"")) if quotes == "any" else text
    small = "".join(letter.lower() if letter.isascii() else letter for letter in straight)
    return regex.sub(r"\p{White_Space}+", " ", small)
