"""Generated rows of every shape: hostile texts, odd fields, and fields missing at times."""

import random
from collections.abc import Callable
from typing import Any

Draw = random.Random
Row = dict[str, Any]

WORDS = [
    "hello",
    "i",
    "true",
    "\n\n",
    "\n",
    "\n\nHuman: ",
    "\n\nAssistant:",
    " ",
    "  ",
    "\t",
    "\r\n",
    "é",
    "五",
    "👩\u200d💻",
    "\u2028",
    "\x00",
    "\x1b",
    '"',
    "\\",
    "{}",
    "</s",
    "<",
    "user",
    "assistant",
    "null",
    "…",
    "x = 1;",
    "Human:",
    "\\u0041",
    "'",
    "\x7f",
    "ß",
]


def words(draw: Draw) -> str:
    return "".join(draw.choices(WORDS, k=draw.randrange(8)))


def said(draw: Draw) -> str:
    """A text that is no transcript."""
    return f"{draw.randrange(10**9)} {words(draw)}"


def transcript(draw: Draw, answer: str, start: str) -> str:
    return f"\n\nHuman: {start}\n\nAssistant: ok \n\nHuman:{start}\n\nAssistant: {answer}"


def spoken(draw: Draw, speaker: str, text: str) -> list[dict[str, str]]:
    names = [("human", "gpt"), ("user", "assistant"), ("prompter", "bot"), ("User", "GPT")]
    asks, answers = draw.choice(names)
    messages = [{speaker: asks, text: said(draw)}, {speaker: answers, text: said(draw)}]
    system = [{speaker: "system", text: said(draw)}] if draw.random() < 0.2 else []
    return system + messages * draw.randrange(1, 3)


def listed(draw: Draw, *roles: str) -> list[dict[str, str]]:
    return [{"role": role, "content": said(draw)} for role in roles]


def maybe(draw: Draw, row: Row, **columns: Any) -> Row:
    """Adds columns that may be missing, null or empty."""
    for name, value in columns.items():
        match draw.randrange(5):
            case 0:
                row[name] = None
            case 1:
                row[name] = ""
            case 2 | 3:
                row[name] = value
    return row


def flat(question: str, extra: str, answer: str) -> Callable[[Draw], Row]:
    def row(draw: Draw) -> Row:
        made = maybe(draw, {question: said(draw), answer: said(draw)}, **{extra: said(draw)})
        return maybe(draw, made, system=said(draw))

    return row


def either(draw: Draw, roles: tuple[str, ...]) -> Any:
    return said(draw) if draw.random() < 0.5 else listed(draw, *roles)


def scored(draw: Draw, row: Row) -> Row:
    chosen, rejected = draw.choice(
        [("score_chosen", "score_rejected"), ("chosen_rating", "rejected_rating"),
         ("chosen-rating", "rejected-rating"), ("chosen_score", "rejected_score")]
    )  # fmt: skip
    values = [8.5, "8.5", "N/A", None, 3, "", " 4 "]
    return row | {chosen: draw.choice(values), rejected: draw.choice(values)}


def pair_of_texts(draw: Draw) -> Row:
    row: Row = {"chosen": said(draw), "rejected": said(draw)}
    name = draw.choice(["prompt", "question", "instruction", "input"])
    row[name] = said(draw)
    if name == "instruction":
        maybe(draw, row, input=said(draw))
    if draw.random() < 0.2:
        start = said(draw)
        row = {"prompt": transcript(draw, "", start), "chosen": said(draw), "rejected": said(draw)}
        row["prompt"] = row["prompt"].removesuffix(" ")
    return scored(draw, maybe(draw, row, system=said(draw)))


def hh(draw: Draw) -> Row:
    start, other = said(draw), said(draw)
    chosen, rejected = said(draw), said(draw)
    row = {
        "chosen": transcript(draw, chosen, start),
        "rejected": transcript(draw, rejected, other if draw.random() < 0.1 else start),
    }
    return scored(draw, row)


def ranked(draw: Draw) -> list[Row]:
    ranks: list[Any] = [1.0, 2, 3, "4", None]
    draw.shuffle(ranks)
    return [{"answer": said(draw), "model": "m", "rank": rank} for rank in ranks[:4]]


def tree(draw: Draw, depth: int, asks: bool = True) -> Row:
    replies = [tree(draw, depth - 1, not asks) for _ in range(draw.randrange(3) if depth else 0)]
    for reply in replies:
        reply["rank"] = draw.choice([0, 1, 2, None])
        reply["deleted"] = draw.random() < 0.1
    return {"text": said(draw), "role": "prompter" if asks else "assistant", "replies": replies}


def exchanges(draw: Draw) -> list[Row]:
    return [{"input": said(draw), "output": said(draw)} for _ in range(draw.randrange(1, 3))]


def helpsteer(draw: Draw) -> Row:
    strength = draw.choice([-3, -1, 0, 1, "2"])
    if draw.random() < 0.5:
        row = {"prompt": said(draw), "response_1": said(draw), "response_2": said(draw)}
        return row | {"preference_strength": strength}
    row = {"context": listed(draw, "user", "assistant", "user"), "overall_preference": strength}
    return row | {"response1": said(draw), "response2": said(draw)}


def pair(draw: Draw) -> Row:
    start = listed(draw, "system", "user")
    sides = {side: start + listed(draw, "assistant") for side in ("chosen", "rejected")}
    if draw.random() < 0.2:
        sides["rejected"] = listed(draw, "user", "assistant")
    return scored(draw, {"prompt": start[1]["content"], **sides})


def completions(draw: Draw) -> Row:
    answers = [{"response": said(draw), "overall_score": score} for score in (1, "2", 3.5, "N/A")]
    return {"instruction": said(draw), "completions": answers, "source": "s"}


def shared(draw: Draw) -> Row:
    """A ShareGPT row: messages, some with a flag, or texts alone."""
    if draw.random() < 0.1:
        return {"conversations": [said(draw) for _ in range(draw.randrange(1, 5))]}
    speaker, text = draw.choice(["from", "role"]), draw.choice(["value", "content"])
    messages: list[Row] = [{**message} for message in spoken(draw, speaker, text)]
    if draw.random() < 0.3:
        flag = draw.choice(["weight", "train", "loss_mask", "train_on_turn", "num_images"])
        for message in messages:
            message[flag] = draw.choice([0, 1, None, False, True, 0.5])
    return {draw.choice(["conversations", "conversation"]): messages}


MADE: dict[str, Callable[[Draw], Row]] = {
    "messages": lambda draw: {"messages": listed(draw, "system", "user", "assistant", "user")},
    "sharegpt": lambda draw: maybe(
        draw,
        shared(draw),
        system=said(draw),
    ),
    "capybara": lambda draw: {"conversation": exchanges(draw)},
    "alternating": lambda draw: {"data": [said(draw) for _ in range(draw.randrange(2, 5))]},
    "alpaca": lambda draw: (
        flat("instruction", "input", "output")(draw)
        | ({"history": [[said(draw), said(draw)]]} if draw.random() < 0.3 else {})
        | (
            {"instruction": None, "input": listed(draw, "user", "assistant", "user")}
            if draw.random() < 0.1
            else {}
        )
    ),
    "dolly": flat("instruction", "context", "response"),
    "prompt_completion": lambda draw: maybe(
        draw,
        {
            "prompt": either(draw, ("user", "assistant", "user")),
            draw.choice(["completion", "response"]): either(draw, ("assistant",)),
        },
        system=said(draw),
    ),
    "question_answer": lambda draw: flat(
        "question", "context", draw.choice(["answer", "response"])
    )(draw),
    "oasst": lambda draw: {"message_tree_id": said(draw), "prompt": tree(draw, 4)},
    "oasst_message": lambda draw: {"message_id": "m", "text": said(draw), "role": "assistant"},
    "text": lambda draw: {"text": said(draw)},
    "completions": completions,
    "pair": pair,
    "ultrainteract": lambda draw: {
        "trajectory": spoken(draw, "from", "value")[:-1],
        "chosen": said(draw),
        "rejected": said(draw),
    },
    "text_pair": pair_of_texts,
    "hh": hh,
    "nectar": lambda draw: {
        "prompt": f"\n\nHuman: {said(draw)}\n\nAssistant: ",
        "answers": ranked(draw),
        "source": ["sharegpt"],
    },
    "helpsteer": helpsteer,
    "shp": lambda draw: {
        "history": said(draw),
        "human_ref_A": said(draw),
        "human_ref_B": said(draw),
        "labels": draw.randrange(2),
        "score_A": draw.randrange(9),
        "score_B": 3,
    },
    "pku": lambda draw: {
        "prompt": said(draw),
        "response_0": said(draw),
        "response_1": said(draw),
        "better_response_id": draw.randrange(2),
        "safer_response_id": 0,
    },
    "openai_pair": lambda draw: {
        "input": {"messages": listed(draw, "system", "user")},
        "preferred_output": listed(draw, "assistant"),
        "non_preferred_output": listed(draw, "assistant"),
    },
    "oasst_ranked": lambda draw: {"message_tree_id": said(draw), "prompt": tree(draw, 2)},
    "kto": lambda draw: {"prompt": said(draw), "completion": said(draw), "label": True},
    "rated": lambda draw: {"prompt": said(draw), "response": said(draw), "helpfulness": 4},
}
