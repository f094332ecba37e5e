"""Every shape of rows, slow and obvious: how its columns tell it, and the dialogue in a row."""

import re
from collections import Counter
from collections.abc import Callable

from reference_dialogues import (
    Fields,
    Said,
    after,
    assistant,
    capybara,
    checked,
    first_has,
    flat,
    is_text,
    joined,
    maybe,
    oasst,
    oasst_ranked,
    prompt_completion,
    rating,
    scores,
    sharegpt,
    side,
    spoken,
    text,
    there,
    tree_roles,
    two,
    user,
)
from reference_rows import (
    OF_ANSWER,
    Refused,
    Row,
    alternating,
    check_fields,
    completions,
    fields_of,
    list_of,
    listed,
    messages_of,
    objects_of,
    pair,
    said_under,
    says,
)
from reference_tokens import Messages


def is_transcript(said: str) -> bool:
    return said.startswith(("\n\nHuman:", "\n\nAssistant:"))


def transcript(said: str) -> Messages:
    """A text with the markers of HH-RLHF, taken apart at each of them."""
    if not is_transcript(said):
        raise Refused("invalid_row")
    _, *parts = re.split(r"\n\n(Human|Assistant):", said)
    says_it = {"Human": user, "Assistant": assistant}
    return [
        says_it[who](text.removeprefix(" "))
        for who, text in zip(parts[::2], parts[1::2], strict=True)
    ]


def transcript_prompt(said: str) -> Messages:
    turns = transcript(said)
    return turns[:-1] if turns[-1] == assistant("") else turns


def hh(fields: Fields) -> Said:
    checked(fields)
    if not is_transcript(text(fields, "chosen")):
        raise Refused("unsupported_field")
    return of_transcripts(fields)


def of_transcripts(fields: Fields) -> Said:
    chosen, rejected = transcript(text(fields, "chosen")), transcript(text(fields, "rejected"))
    if chosen[-1]["role"] != "assistant" or rejected[-1]["role"] != "assistant":
        raise Refused("invalid_row")
    if chosen[:-1] != rejected[:-1]:
        raise Refused("multi_message_completion")
    return chosen[:-1], two(chosen[-1]["content"], rejected[-1]["content"], scores(fields))


def text_pair(fields: Fields) -> Said:
    checked(fields, "prompt")
    names = [n for n in ("prompt", "question", "instruction") if fields.get(n) is not None]
    if not names:
        asked = [user(text(fields, "input"))]
    else:
        name = names[0]
        if any(says(fields[other]) and fields[other] != fields[name] for other in names[1:]):
            raise Refused("unsupported_field")
        if isinstance(fields[name], list):
            asked = messages_of(fields[name])
        elif is_transcript(text(fields, name)):
            asked = transcript_prompt(fields[name])
        else:
            asked = [user(joined(fields, name, "input"))]
    context = after(fields, asked)
    sides = [n if there(fields, n) else f"{n}_response" for n in ("chosen", "rejected")]
    if is_transcript(maybe(fields, "chosen")):
        found, answers = of_transcripts(fields)
        if found != context:
            raise Refused("unsupported_field")
        return found, answers
    return context, two(text(fields, sides[0]), text(fields, sides[1]), scores(fields))


def ultrainteract(fields: Fields) -> Said:
    check_fields(fields, ("trajectory",))
    if said_under(fields, OF_ANSWER):
        raise Refused("unsupported_field")
    answers = two(text(fields, "chosen"), text(fields, "rejected"), scores(fields))
    return spoken(fields.get("trajectory")), answers


def nectar(fields: Fields) -> Said:
    checked(fields, flat=False)
    if any(said_under(answer, OF_ANSWER) for answer in objects_of(fields.get("answers"))):
        raise Refused("unsupported_field")
    answers = []
    for answer in list_of(fields.get("answers"), dict):
        rank = rating(answer, "rank")
        score = None if rank is None else -rank
        answers.append({"response": text(answer, "answer"), "overall_score": score})
    prompt = text(fields, "prompt")
    asked = transcript_prompt(prompt) if is_transcript(prompt) else [user(prompt)]
    return after(fields, asked), answers


def helpsteer(fields: Fields) -> Said:
    strength = "preference_strength"
    strength = strength if fields.get(strength) is not None else "overall_preference"
    preference = rating(fields, strength)
    if preference is None:
        raise Refused("invalid_row")
    checked(fields, "context", "prompt")
    name = "prompt" if fields.get("prompt") is not None else "context"
    sides = [
        text(fields, f"response_{n}" if there(fields, f"response_{n}") else f"response{n}")
        for n in (1, 2)
    ]
    context = side(fields, name, user)
    if any("<extra_id_1>" in message["content"] for message in context):
        raise Refused("unsupported_field")
    if preference == 0:
        raise Refused("tie")
    if preference > 0:
        sides.reverse()
    return context, two(sides[0], sides[1], (abs(preference), 0.0))


def choice(fields: Fields, name: str) -> int:
    value = rating(fields, name)
    if value not in (0, 1):
        raise Refused("invalid_row")
    return int(value)


def shp(fields: Fields) -> Said:
    checked(fields)
    sides = [(text(fields, f"human_ref_{s}"), rating(fields, f"score_{s}")) for s in "AB"]
    if choice(fields, "labels") == 0:
        sides.reverse()
    (chosen, high), (rejected, low) = sides
    return [user(text(fields, "history"))], two(chosen, rejected, (high, low))


def pku(fields: Fields) -> Said:
    checked(fields)
    better = choice(fields, "better_response_id")
    sides = [text(fields, f"response_{n}") for n in (better, 1 - better)]
    context = after(fields, [user(text(fields, "prompt"))])
    return context, two(sides[0], sides[1], (None, None))


def openai_pair(fields: Fields) -> Said:
    outputs = ("preferred_output", "non_preferred_output")
    check_fields(fields, outputs)
    if not isinstance(fields.get("input"), dict):
        raise Refused("invalid_row")
    check_fields(fields["input"], ("messages",))
    context = messages_of(fields["input"].get("messages"))
    ends = []
    for name in outputs:
        output = messages_of(fields.get(name))
        if len(output) > 1:
            raise Refused("unsupported_field")
        ends += [*context, *output][-1:]
    if len(ends) != 2 or any(end["role"] != "assistant" for end in ends):
        raise Refused("invalid_row")
    return context, two(ends[0]["content"], ends[1]["content"], (None, None))


def paired(fields: Fields) -> Said:
    """Pairs of message lists, with their scores."""
    context, answers = pair(fields)
    sides = [answer["response"] for answer in answers or []]
    return context, two(sides[0], sides[1], scores(fields))


def refuse(_: Fields) -> Said:
    raise Refused("unsupported_field")


SHAPES: dict[str, Callable[[Fields], Said]] = {
    "completions": completions,
    "pair": paired,
    "ultrainteract": ultrainteract,
    "text_pair": text_pair,
    "hh": hh,
    "nectar": nectar,
    "helpsteer": helpsteer,
    "shp": shp,
    "pku": pku,
    "openai_pair": openai_pair,
    "oasst_ranked": oasst_ranked,
    "kto": refuse,
    "rated": refuse,
    "messages": listed,
    "sharegpt": sharegpt,
    "capybara": capybara,
    "alternating": alternating,
    "alpaca": flat("instruction", ("input", "context"), answers=("output",), either=True),
    "dolly": flat("instruction", ("context", "input"), answers=("response",)),
    "prompt_completion": prompt_completion,
    "question_answer": flat("question", ("context", "input"), answers=("answer", "response")),
    "oasst": oasst,
    "oasst_message": refuse,
    "text": refuse,
}


def _is_pair_of(fields: Fields, kind: type) -> bool:
    return all(isinstance(fields.get(name), kind) for name in ("chosen", "rejected"))


def _is_text_pair(fields: Fields) -> bool:
    asked = any(there(fields, name) for name in ("prompt", "question", "instruction"))
    if _is_pair_of(fields, str) and (asked or is_text(fields, "input")):
        return True
    asked = there(fields, "prompt") or there(fields, "instruction")
    return asked and there(fields, "chosen_response", "rejected_response")


TOLD: dict[str, dict[str, Callable[[Fields], bool]]] = {
    "binarize": {
        "completions": lambda row: isinstance(row.get("completions"), list),
        "pair": lambda row: _is_pair_of(row, list),
        "ultrainteract": lambda row: (
            isinstance(row.get("trajectory"), list) and there(row, "chosen", "rejected")
        ),
        "text_pair": _is_text_pair,
        "hh": lambda row: _is_pair_of(row, str),
        "nectar": lambda row: there(row, "prompt") and first_has(row.get("answers"), "rank"),
        "helpsteer": lambda row: (
            there(row, "prompt", "response_1", "response_2", "preference_strength")
            or there(row, "context", "response1", "response2", "overall_preference")
        ),
        "shp": lambda row: there(row, "history", "human_ref_A", "human_ref_B", "labels"),
        "pku": lambda row: there(row, "prompt", "response_0", "response_1", "better_response_id"),
        "openai_pair": lambda row: there(row, "input", "preferred_output", "non_preferred_output"),
        "oasst_ranked": lambda row: there(row, "message_tree_id", "prompt"),
        "kto": lambda row: there(row, "prompt", "completion", "label"),
        "rated": lambda row: there(row, "prompt", "response", "helpfulness"),
    },
    "prep": {
        "messages": lambda row: first_has(row.get("messages"), "role"),
        "sharegpt": lambda row: (
            isinstance(row.get("conversations"), list)
            or first_has(row.get("conversation"), "from")
            or first_has(row.get("conversation"), "role")
            or first_has(row.get("messages"), "from")
        ),
        "capybara": lambda row: first_has(row.get("conversation"), "input"),
        "alternating": lambda row: isinstance(row.get("data"), list),
        "alpaca": lambda row: (
            there(row, "output") and (there(row, "instruction") or there(row, "input"))
        ),
        "dolly": lambda row: there(row, "instruction", "response"),
        "prompt_completion": lambda row: (
            there(row, "prompt") and (there(row, "completion") or there(row, "response"))
        ),
        "question_answer": lambda row: (
            there(row, "question") and (there(row, "answer") or there(row, "response"))
        ),
        "oasst": lambda row: there(row, "message_tree_id", "prompt"),
        "oasst_message": lambda row: there(row, "message_id", "text", "role"),
        "text": lambda row: there(row, "text"),
    },
}
"""By command, whether a row's columns tell a shape; of several, the first one counts."""


def shape_of(fields: Fields, command: str) -> str | None:
    """The shape that a row's columns tell."""
    return next((shape for shape, fits in TOLD[command].items() if fits(fields)), None)


def usual_shape(rows: list[Row], command: str) -> str | None:
    """The shape of most rows."""
    found: Counter[str] = Counter()
    for row in rows:
        try:
            shape = shape_of(fields_of(row.raw), command)
        except Refused:
            continue
        found.update([shape] if shape else [])
    return max(TOLD[command], key=lambda shape: found[shape]) if found else None


def dialogue(shape: str | None, fields: Fields) -> Said:
    """The messages before any answer that is yet to be picked, and these answers."""
    if shape is None:
        raise Refused("invalid_row")
    return SHAPES[shape](fields)


def role_words(shape: str | None, fields: Fields) -> set[tuple[str, str, str]]:
    """The words of a row that was read which stand for a role of another name: each with the
    shape before it and the role behind it.
    """
    if shape in ("oasst", "oasst_ranked"):
        is_met = "prompter" in tree_roles(fields["prompt"], deep=shape == "oasst")
        return {(shape, "prompter", "user")} if is_met else set()
    if shape not in ("sharegpt", "ultrainteract"):
        return set()
    lists = ("conversations", "conversation", "messages", "trajectory")
    said = next(fields[name] for name in lists if fields.get(name) is not None)
    if any(isinstance(message, str) for message in said):
        return set()
    words = [message.get("from") or message.get("role") for message in said]
    roles = [message["role"] for message in spoken(said)]
    return {(shape, word, role) for word, role in zip(words, roles, strict=True) if word != role}


def id_of(fields: Fields, shape: str | None) -> str | None:
    """The row's own id."""
    names = ["id"] if shape in ("alternating", "completions") else ["id", "prompt_id"]
    names += ["message_tree_id"] if shape in ("oasst", "oasst_ranked") else []
    return next((str(fields[name]) for name in names if fields.get(name) is not None), None)
