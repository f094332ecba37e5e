"""The whole walk, slow and obvious: raw rows in, and for each the outcome, reason, text and ids
that the engine must give.

Plain Python, `transformers` and HF `tokenizers`; written after DESIGN's rules, with no look at
how the engine does it fast.
"""

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import regex

from reference_dedup import exact_key, normal, shingles
from reference_filters import FILTERS, phrases_in
from reference_pairs import PRESETS, doubt, pairs, score
from reference_rows import Answers, Refused, Row, check_tools, fields_of
from reference_shapes import dialogue, id_of, role_words, shape_of, usual_shape
from reference_tokens import Messages, Tokens
from reference_truecase import RULES
from reference_unread import check_unread

RECIPES = Path(__file__).parents[2] / "python" / "zephyr_fast" / "recipes"
MARKER = r"<\|[^<>|\s]{1,40}\|>|\[/?[A-Z_]{2,40}\]"


KNOWN = {
    "compat": ("modern",),
    "truecase.id_from": ("clean", "raw"),
    "dedup.of": ("dialogue",),
    "tokenize.train_on": ("assistant",),
    "tokenize.control_tokens": ("quarantine", "allow"),
    "shards.tokens": (True,),
    "template.name": ("auto", "zephyr", "tokenizer"),
}
"""What the twin can do where a key has several words; the first is the default."""


@dataclass
class Outcome:
    """What becomes of one row."""

    row_id: int
    outcome: str = "written"
    reason: str | None = None
    duplicate_of: int | None = None
    source_id: str | None = None
    prompt_id: str | None = None
    split: str | None = None
    letters_changed: int = 0
    tokens_truncated: int | None = None
    phrases: set[str] = field(default_factory=set)
    doubts: list[str] = field(default_factory=list)
    role_words: set[tuple[str, str, str]] = field(default_factory=set)
    texts: list[dict[str, Any]] = field(default_factory=list)
    samples: list[dict[str, Any]] = field(default_factory=list)


def recipe(name: str | Path, settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A packaged recipe, or the file at a path, with its defaults and the keys laid over it."""
    path = name if isinstance(name, Path) else RECIPES / f"{name}.toml"
    defaults: dict[str, dict[str, Any]] = {
        "truecase": {"enabled": False, "rules": "careful", "id_from": "clean"},
        "dedup": {"near": False, "threshold": 0.7},
        "pack": {"seq_len": 2048},
        "shards": {"test_fraction": 0.1},
        "tokenize": {"control_tokens": "quarantine"},
    }
    found: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    for key, value in (settings or {}).items():
        *path, last = key.split(".")
        here: Any = found
        for part in path:
            here = here[int(part)] if isinstance(here, list) else here.setdefault(part, {})
        here[last] = value
    return {**found, **{name: {**table, **found.get(name, {})} for name, table in defaults.items()}}


class Walk:
    """One run: `outcomes` gives every row's, in order, as the engine's ledger, shards and text
    must have them.
    """

    def __init__(self, command: str, rules: dict[str, Any], tokens: Tokens) -> None:
        self.command, self.rules, self.tokens = command, rules, tokens
        self.kept: dict[str, int] = {}
        self.preferred: set[tuple[str, str, str]] = set()
        table = rules.get("binarize", {})
        drops = "keep" if "preset" in table else "drop"
        self.drops_doubtful = table.get("doubtful_pairs", drops) == "drop"
        self.shingles: dict[int, frozenset[Any]] = {}
        self.control = sorted(
            {*tokens.special, *regex.findall(MARKER, str(tokens.outer.chat_template))}
        )
        for key, known in KNOWN.items():
            table, _, name = key.rpartition(".")
            written = (rules.get(table, {}) if table else rules).get(name, known[0])
            if written not in known:
                raise NotImplementedError(f"the twin knows no {key} = {written!r}")

    def outcomes(self, rows: list[Row]) -> list[Outcome]:
        self.forced = self.rules.get("source", {}).get("shape", "auto")
        self.usual = usual_shape(rows, self.command)
        return [self._outcome(row_id, row) for row_id, row in enumerate(rows)]

    def _outcome(self, row_id: int, row: Row) -> Outcome:
        done = Outcome(row_id)
        try:
            fields = fields_of(row.raw)
            shape = shape_of(fields, self.command) or self.usual
            shape = shape if self.forced == "auto" else self.forced
            context, answers = dialogue(shape, fields)
            check_unread(shape, fields, context, answers)
            done.role_words = role_words(shape, fields)
            done.source_id = id_of(fields, shape)
            self._clean(done, context, answers)
            made = None if answers is None else self._pairs(done, fields, answers)
            self._look_for_control_tokens(
                [m["content"] for m in context] + [text for pair in made or [] for text in pair[:2]]
            )
            if made is not None:
                made = self._settle(done, made, [doubt(pair) for pair in made])
            self._admit(done, row.raw, context)
            done.split = self._split(context)
            if done.duplicate_of is None and made is None:
                self._sample(done, context)
            elif done.duplicate_of is None:
                made = self._compare(done, context, made or [])
                self._token_pairs(done, context, made)
        except Refused as refused:
            done.outcome, done.reason = refused.outcome, refused.reason
            done.samples, done.texts = [], []
        if done.outcome != "written":
            done.split = None
        return done

    def _clean(self, done: Outcome, context: Messages, answers: Answers) -> None:
        raw_prompt = _prompt(context)
        if self.rules["truecase"]["enabled"]:
            for said, key in [
                *((message, "content") for message in context),
                *((answer, "response") for answer in answers or []),
            ]:
                said[key], letters_changed = RULES[self.rules["truecase"]["rules"]](said[key])
                done.letters_changed += letters_changed
        try:
            for table in self.rules.get("filter", []):
                done.phrases |= phrases_in(table, context, answers)
                FILTERS[table["kind"]](table, context, answers)
        finally:
            prompt = raw_prompt if self.rules["truecase"]["id_from"] == "raw" else _prompt(context)
            done.prompt_id = hashlib.sha256(prompt.encode()).hexdigest()

    def _pairs(
        self, done: Outcome, fields: dict[str, Any], answers: list[dict[str, Any]]
    ) -> list[Any]:
        table = self.rules["binarize"]
        strategy, score_by, repair, sources, _ = PRESETS[table.get("preset", "paper")]
        if fields.get("source") in table.get("drop_sources", sources):
            raise Refused("excluded_source")
        if all("side" in answer for answer in answers) and answers:
            chosen, rejected = (answer["response"] for answer in answers)
            if chosen == rejected:
                raise Refused("identical_completions")
            return [(chosen, rejected, *(answer["score"] for answer in answers))]
        scores = [
            score(answer, table.get("score_by", score_by), table.get("repair", repair))
            for answer in answers
        ]
        made = pairs(
            answers,
            scores,
            table.get("strategy", strategy),
            self.rules.get("seed", 42),
            done.prompt_id or "",
        )
        if isinstance(made, str):
            raise Refused(made)
        return made

    def _settle(self, done: Outcome, made: list[Any], doubts: list[str | None]) -> list[Any]:
        """The pairs without those that teach nothing or the wrong thing, if these are dropped."""
        found = [name for name in doubts if name is not None]
        done.doubts += found
        if not self.drops_doubtful:
            return made
        left = [pair for pair, name in zip(made, doubts, strict=True) if name is None]
        if not left:
            raise Refused(found[0])
        return left

    def _compare(self, done: Outcome, context: Messages, made: list[Any]) -> list[Any]:
        """The pairs without those of which an earlier row says the opposite."""
        prompt = repr(exact_key([message["content"] for message in context]))
        opposite = [
            "contradicts_row"
            if pair[0] != pair[1] and (prompt, pair[1], pair[0]) in self.preferred
            else None
            for pair in made
        ]
        said = zip(made, opposite, strict=True)
        self.preferred |= {(prompt, pair[0], pair[1]) for pair, found in said if found is None}
        return self._settle(done, made, opposite)

    def _look_for_control_tokens(self, texts: list[str]) -> None:
        if self.rules["tokenize"]["control_tokens"] == "quarantine" and any(
            token in text for text in texts for token in self.control
        ):
            raise Refused("control_token")

    def _admit(self, done: Outcome, raw: Any, context: Messages) -> None:
        """Repeats an earlier row that stayed: exactly, or in enough of its runs of five words."""
        dedup = self.rules["dedup"]
        texts = [message["content"] for message in context]
        key = (
            repr(exact_key(texts))
            if self.command == "prep"
            else repr(raw.strip(b" \t\r\n\x0b\x0c") if isinstance(raw, bytes) else raw)
        )
        preset = self.rules.get("binarize", {}).get("preset")
        drops = preset is not None and PRESETS[preset][4]
        if dedup.get("exact", drops) and key in self.kept:
            done.outcome, done.reason, done.duplicate_of = "duplicate", "exact", self.kept[key]
            return
        if dedup["near"]:
            own = shingles(texts)
            for earlier, theirs in self.shingles.items():
                if own | theirs and len(own & theirs) / len(own | theirs) >= dedup["threshold"]:
                    done.outcome, done.reason, done.duplicate_of = "duplicate", "near", earlier
                    return
            self.shingles[done.row_id] = own
        self.kept.setdefault(key, done.row_id)

    def _split(self, context: Messages) -> str:
        draw = int.from_bytes(
            hashlib.sha256(f"split:{normal(_prompt(context))}".encode()).digest()[:8], "big"
        )
        return "test" if draw < self.rules["shards"]["test_fraction"] * 2**64 else "train"

    def _sample(self, done: Outcome, context: Messages) -> None:
        check_tools(context)
        ids, labels, done.tokens_truncated = self.tokens.cut_sample(
            context, self.rules["pack"]["seq_len"]
        )
        if all(label == -100 for label in labels):
            done.tokens_truncated = None
            raise Refused("no_assistant_tokens")
        done.samples = [{"ids": ids, "labels": labels}]
        done.texts = [
            {"prompt": _prompt(context), "prompt_id": done.prompt_id, "messages": _plain(context)}
        ]

    def _token_pairs(self, done: Outcome, context: Messages, made: list[Any]) -> None:
        lost, doubts = 0, list[str | None]()
        for chosen, rejected, score_chosen, score_rejected in made:
            ids = self.tokens.pair(
                context, chosen, rejected, self.rules["binarize"].get("max_length", 1024)
            )
            if isinstance(ids, str):
                raise Refused(ids)
            is_same = ids[0]["chosen_ids"] == ids[0]["rejected_ids"]
            doubts.append("identical_when_truncated" if is_same else None)
            if is_same and self.drops_doubtful:
                continue
            scores = {"score_chosen": score_chosen, "score_rejected": score_rejected}
            done.samples.append({**ids[0], **scores, "pair": len(done.samples)})
            lost += ids[1]
            sides = [
                [*context, {"role": "assistant", "content": text}] for text in (chosen, rejected)
            ]
            text = {
                "prompt": _prompt(context),
                "prompt_id": done.prompt_id,
                "chosen": sides[0],
                "rejected": sides[1],
            }
            done.texts.append({**text, "messages": sides[0], **scores})
        self._settle(done, made, doubts)
        done.tokens_truncated = lost


def _plain(context: Messages) -> Messages:
    return [{name: message[name] for name in ("role", "content")} for message in context]


def _prompt(context: Messages) -> str:
    return next((message["content"] for message in context if message["role"] == "user"), "")
