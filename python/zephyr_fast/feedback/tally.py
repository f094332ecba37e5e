"""Counts of a run: answers and their failures, verdicts and theirs."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

Row = Mapping[str, Any]


class Tally:
    """Counts over rows, in a form that JSON can hold."""

    def __init__(self) -> None:
        self.answered: Counter[str] = Counter()
        self.cut: Counter[str] = Counter()
        self.failed: dict[str, Counter[str]] = {}
        self.verdicts: Counter[str] = Counter()
        self.faults_of: dict[str, Counter[str]] = {}
        self.usable = self.equal = 0

    def count(self, row: Row) -> None:
        """Count one row."""
        completions, provenance = row["completions"], row["_provenance"]
        for completion, answer in zip(completions, provenance["answers"], strict=True):
            self.answered[completion["model"]] += 1
            self.cut[completion["model"]] += answer["cut"]
        for failure in provenance["failed"]:
            self.failed.setdefault(failure["model"], Counter())[failure["reason"]] += 1
        for verdict in provenance["verdicts"]:
            faults = [fault for fault in verdict.get("faults", []) if fault]
            self.verdicts[verdict["judge"]] += len(verdict["order"]) - len(faults)
            self.faults_of.setdefault(verdict["judge"], Counter()).update(faults)
        scored = [one for one in completions if one["overall_score"] is not None]
        self.usable += len(scored) >= 2
        self.equal += len(completions) > 1 and len({one["response"] for one in completions}) == 1

    def faults(self) -> Mapping[str, int]:
        """Return the reasons of answers and verdicts that are missing, the most frequent first."""
        both = (*self.failed.values(), *self.faults_of.values())
        return dict(sum(both, Counter()).most_common())

    def totals(self) -> dict[str, Any]:
        """Return all counts, sorted by name."""
        return {
            "rows_with_two_scores": self.usable,
            "rows_with_equal_answers": self.equal,
            "answered": _sorted(self.answered),
            "cut": _sorted(self.cut),
            "failed": {name: _sorted(found) for name, found in sorted(self.failed.items())},
            "verdicts": _sorted(self.verdicts),
            "faults": {name: _sorted(found) for name, found in sorted(self.faults_of.items())},
        }


def _sorted(counter: Counter[str]) -> dict[str, int]:
    return {name: counter[name] for name in sorted(counter) if counter[name]}
