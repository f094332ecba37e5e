"""Rows of simulated judges with known biases, in the form that `feedback collect` writes."""

from dataclasses import dataclass
from typing import Any

import numpy as np

MODELS = ("alpha", "beta", "gamma", "delta")


@dataclass(frozen=True)
class Simulated:
    """A judge: what it adds to the quality of an answer before it rounds."""

    name: str
    position: float = 0.0  # points for the first position, and as many off for the last
    log_length: float = 0.0  # points per log length
    family: float = 0.0  # points for answers of its family
    noise: float = 1.0
    fails: float = 0.0  # share of verdicts that cannot be read


def settings(judges: tuple[Simulated, ...]) -> dict[str, Any]:
    """Settings of a run. A judge's family is its name; the family of model `alpha` is `one`."""
    families = dict.fromkeys(MODELS, "other") | {"alpha": "one"} | {j.name: j.name for j in judges}
    return {
        "method": "text",
        "judges": [judge.name for judge in judges],
        "families": families,
    }


def rows(
    judges: tuple[Simulated, ...],
    seed: int,
    prompts: int = 120,
    strengths: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0),
) -> list[dict[str, Any]]:
    """Rows with four answers each. True quality depends on model and chance, not on length."""
    draws = np.random.default_rng(seed)
    found = []
    for number in range(prompts):
        quality = draws.normal(size=4) + np.array(strengths)
        lengths = np.exp(draws.normal(5, 0.6, size=4)).astype(int) + 1
        order = [int(one) for one in draws.permutation(4)]
        verdicts: list[dict[str, Any]] = []
        for judge in judges:
            base = 5.5 + quality + judge.log_length * np.log(lengths / 150)
            base = base + judge.family * (np.array(MODELS) == "alpha") * (judge.name == "one")
            for listed in (order, order[::-1]):
                tilt = judge.position * np.linspace(1, -1, 4)
                scores = (base[listed] + tilt + judge.noise * draws.normal(size=4)) / 2
                verdicts.append(_verdict(judge, "helpfulness", listed, scores, 1, 5, draws))
            for one in range(4):
                scores = base[[one]] + judge.noise * draws.normal(size=1)
                verdicts.append(_verdict(judge, "overall", [one], scores, 1, 10, draws))
        found.append(
            {
                "id": f"p{number}",
                "completions": [
                    {"model": model, "response": "x" * int(length)}
                    for model, length in zip(MODELS, lengths, strict=True)
                ],
                "_provenance": {
                    "answers": [{"cut": False}] * 4,
                    "failed": [],
                    "verdicts": verdicts,
                },
            }
        )
    return found


def _verdict(
    judge: Simulated, aspect: str, order: list[int], scores: Any, low: int, high: int, draws: Any
) -> dict[str, Any]:
    rounded = [float(np.clip(np.round(score), low, high)) for score in scores]
    fails = draws.random(len(order)) < judge.fails
    verdict: dict[str, Any] = {
        "judge": judge.name,
        "aspect": aspect,
        "order": order,
        "scores": [None if fail else one for one, fail in zip(rounded, fails, strict=True)],
    }
    if fails.any():
        verdict["faults"] = ["no_verdict" if fail else None for fail in fails]
    return verdict
