"""How scored replies become pairs, in plain Python: which score, which replies, and CPython's
own `random` for the old script's.
"""

import hashlib
import math
import random
from typing import Any

import regex

ASPECTS = ("instruction_following", "honesty", "truthfulness", "helpfulness")

# Strategy, score, repair, sources dropped, whether repeated rows are dropped: ZEPHYR's published
# sets and the paper.
PRESETS: dict[str, tuple[str, str, bool, tuple[str, ...], bool]] = {
    "paper": ("best-vs-random", "mean_aspects", False, (), True),
    "h4-v1": ("best-vs-draw", "overall", False, (), False),
    "h4-v2-rules": ("best-vs-random", "overall", True, ("truthful_qa",), False),
    "argilla": ("best-vs-random-lower", "mean_aspects", False, (), True),
}

SCORES = ("overall", "fine_grained", "mean_aspects", *ASPECTS)
STRATEGIES = (
    "best-vs-random",
    "best-vs-random-lower",
    "best-vs-worst",
    "all-lower",
    "best-vs-draw",
)
"""What `score` and `pairs` know; anything else is an error there."""

NO_OTHER = {
    "best-vs-random": "identical_completions",
    "best-vs-random-lower": "tie",
    "best-vs-worst": "tie",
    "all-lower": "tie",
    "best-vs-draw": "identical_completions",
}
"""By strategy, the reason of a row in which no reply can be rejected."""

Pair = tuple[str, str, float | None, float | None]
"""Chosen and rejected text, and their scores."""


NO_SCORE = {"", "-", "n/a", "na", "nan", "none", "null"}


def number(written: Any) -> float | None:
    """A score as sources write it: 4, 4.5, "4", or one of the words for none. Raises ValueError for
    any other text.
    """
    if isinstance(written, bool) or written is None:
        return None
    if isinstance(written, float) and math.isnan(written):
        return None
    if isinstance(written, str) and written.strip().lower() in NO_SCORE:
        return None
    value = float(written)
    if not math.isfinite(value):
        raise ValueError(written)
    return value


def score(completion: dict[str, Any], score_by: str, repair: bool) -> float | None:
    annotations = completion.get("annotations") or {}
    ratings = [number((annotations.get(aspect) or {}).get("Rating")) for aspect in ASPECTS]
    rated = [rating for rating in ratings if rating is not None]
    mean = sum(rated) / len(rated) if rated else None
    if score_by == "mean_aspects":
        return mean
    if score_by in ASPECTS:
        return ratings[ASPECTS.index(score_by)]
    if score_by == "fine_grained":
        return number(completion.get("fine-grained_score"))
    if score_by != "overall":
        raise NotImplementedError(f"score_by = {score_by!r}")
    overall = number(completion.get("overall_score"))
    if repair and overall == 10 and mean is not None:
        return 1.0 if mean <= 2 else 2 * mean if mean <= 4 else 10.0
    return overall


def pairs(
    completions: list[dict[str, Any]],
    scores: list[float | None],
    strategy: str,
    seed: int,
    prompt_id: str,
) -> list[Pair] | str:
    """The pairs of a row, or the reason why there are none."""
    if len(completions) < 2:
        return "too_few_completions"
    texts = [completion.get("response") or "" for completion in completions]
    scored = [place for place, value in enumerate(scores) if value is not None]
    if len(scored) < 2:
        return "too_few_completions" if scored else "no_scores"
    # Of equals Python's max gives the first.
    best = max(scored, key=lambda place: scores[place] or 0.0)
    lower = [place for place in scored if scores[place] != scores[best]]
    if strategy == "best-vs-draw":
        rejected = _draw(completions, texts, scores, best)
    elif strategy == "best-vs-random":
        rejected = _pick(
            [place for place in scored if texts[place] != texts[best]], seed, prompt_id
        )
    elif strategy == "best-vs-random-lower":
        rejected = _pick(lower, seed, prompt_id)
    elif strategy == "best-vs-worst":
        rejected = [min(reversed(lower), key=lambda place: scores[place] or 0.0)] if lower else []
    elif strategy == "all-lower":
        rejected = lower
    else:
        raise NotImplementedError(f"strategy = {strategy!r}")
    if not rejected:
        return NO_OTHER[strategy]
    made = [(texts[best], texts[place], scores[best], scores[place]) for place in rejected]
    made = [pair for pair in made if strategy == "best-vs-draw" or pair[0] != pair[1]]
    return made or "identical_completions"


def doubt(pair: Pair) -> str | None:
    """Why a pair teaches nothing or the wrong thing, as far as it shows before it is cut."""
    chosen, _, score_chosen, score_rejected = pair
    if regex.fullmatch(r"\p{White_Space}*", chosen):
        return "empty_chosen"
    if score_chosen is None or score_rejected is None:
        return None
    if score_chosen == score_rejected:
        return "tie"
    return "rejected_scores_higher" if score_chosen < score_rejected else None


def _pick(places: list[int], seed: int, prompt_id: str) -> list[int]:
    """One of them, by the first eight bytes of a SHA-256 over seed and prompt."""
    draw = int.from_bytes(hashlib.sha256(f"{seed}:{prompt_id}:0".encode()).digest()[:8], "big")
    return [places[draw % len(places)]] if places else []


def _draw(
    completions: list[dict[str, Any]], texts: list[str], scores: list[float | None], best: int
) -> list[int]:
    """The October 2023 script: `random.seed(42)` in every row, then `random.choice` until it is
    not the chosen one.
    """
    whole = [
        (scores[place], texts[place], completion.get("model"))
        for place, completion in enumerate(completions)
    ]
    if all(one == whole[best] for one in whole):
        return []
    random.seed(42)
    while True:
        place = random.choice(range(len(whole)))
        if whole[place] != whole[best]:
            return [place]
