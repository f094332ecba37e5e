"""What `test_adding.py` adds to a copy of the sources: by row of CONTRIBUTING's table, the edits of
each file.
"""

import re
from collections.abc import Callable, Mapping

CORE = "rust/core/src"

Edit = Callable[[str], str]
Edits = Mapping[str, list[Edit]]
"""By file, what is done to its text; that of a new file is empty."""


def write(text: str) -> Edit:
    return lambda before: before + text


def behind(pattern: str, text: str) -> Edit:
    """Puts `text` behind the one place that matches; a number in a group of it goes up by one."""

    def edit(before: str) -> str:
        places = list(re.finditer(pattern, before))
        assert len(places) == 1, f"{len(places)} places look like {pattern}"
        (found,) = places
        head = found[0].replace(found[1], str(int(found[1]) + 1)) if found.groups() else found[0]
        return f"{before[: found.start()]}{head}{text}{before[found.end() :]}"

    return edit


FILTER = """//! Lets every dialogue through.

use serde::Deserialize;

use crate::dialogue::Dialogue;
use crate::stage::{Notes, Reason, Stage};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Dummy {}

pub(super) fn build(table: toml::Table) -> Result<Box<dyn Stage>, toml::de::Error> {
    Ok(Box::new(table.try_into::<Dummy>()?))
}

impl Stage for Dummy {
    fn visit(&self, _: &mut Dialogue, _: &mut Notes) -> Result<(), Reason> {
        Ok(())
    }
}
"""

SHAPE = """//! The same as raw UltraChat.

use super::alternating;
use super::unread::Unread;
use crate::dialogue::Dialogue;
use crate::stage::Reason;

pub(super) fn parse(row: &[u8], unread: &mut Unread) -> Result<Dialogue, Reason> {
    alternating::parse(row, unread)
}
"""

TEMPLATE = """{% for message in messages %}\
<|{{ message['role'] }}|>{{ message['content'] }}{% endfor %}
"""

BOUNDS = """
        if self.dedup.dummy == 0 {
            return wrong("dedup.dummy", "at least 1");
        }"""

FACTS = """
const DUMMY: Facts = Facts {
    word: "dummy",
    command: "dummy",
    act: "dummy",
    described: "labelled answers",
    described_text: "labelled answers",
    completions: Some(Completions {
        unit: "answers",
        each: &[Completion {
            text: "completion",
            ids: "completion_ids",
            described: "the answer",
        }],
        numbers: &[("label", "1 for a good answer, else 0.")],
        index: ("answer", "Index of the answer among those of its row, from 0."),
        text_copy: None,
    }),
};
"""

STEPS = """//! Labelled answers: good from a score of 5 on.

use super::{Made, Rules, Steps};
use crate::dataset::product::Product;
use crate::dialogue::{Dialogue, Example, Replies};
use crate::stage::{Code, Reason};

pub(super) const STEPS: Steps = Steps {
    product: Product::Dummy,
    has_table: |recipe| recipe.dummy.is_some(),
    resolve: |recipe| {
        recipe.dummy.get_or_insert_default();
        Ok(())
    },
    tokens_max: |recipe| recipe.dummy.as_ref().map_or(0, |dummy| dummy.max_length),
    rules: |_| Some(Box::new(Labels)),
};

struct Labels;

impl Rules for Labels {
    fn examples(&self, dialogue: &mut Dialogue, _: &str) -> Result<Vec<Made>, Reason> {
        let Replies::Scored(replies) = std::mem::take(&mut dialogue.replies) else {
            return Err(Reason::from(Code::NoScores));
        };
        let made = replies.into_iter().map(|reply| Made {
            example: Example {
                completions: vec![reply.text],
                numbers: vec![reply.overall.map(|score| f64::from(u8::from(score >= 5.0)))],
            },
            doubt: None,
            verdict: None,
        });
        Ok(made.collect())
    }

    fn drops_doubtful(&self) -> bool {
        false
    }
}
"""

TABLE_OF_PRODUCT = """
/// `[dummy]`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Dummy {
    /// Maximum tokens.
    pub max_length: usize,
}
"""

PYTHON_FACTS = """
    Product.DUMMY: Facts(
        building="Label answers.",
        training="training on labelled answers",
        unit="answers",
        length_key="max_length",
        recipe="dummy",
        columns=(
            Column("prompt_ids", "<i4", is_list=True),
            Column("completion_ids", "<i4", is_list=True),
            Column("label", "<f8", may_be_null=True),
            Column("row_id", "<i8"),
            Column("answer", "<i4"),
        ),
        ids=(("prompt_ids",), ("completion_ids",)),
        counted_bytes_min=20,
        row_bytes_min=28,
        is_packed=False,
        can_pad=False,
        varies_in_length=True,
        needs_reference=True,
        documents=lambda split: split.examples,
        tokens_seen=lambda split: split.tokens,
        summary=_pairs,
    ),"""

FUNCTION = '''

def dummy(
    recipe: str | Path = "dummy", *, out: str | Path, **options: Unpack[RunOptions]
) -> Manifest:
    """Label answers."""
    return make("dummy", recipe, out, options)
'''

TRAINING = '''"""Trains on labelled answers."""


def parse(arguments: list[str]) -> tuple[list[str]]:
    return (arguments,)


def main(arguments: list[str]) -> None:
    raise NotImplementedError(arguments)
'''

ANSWERS = """{"instruction": "Tea?", "completions": [{"response": "Yes.", "overall_score": 8}]}
{"instruction": "Red or blue?", "completions": [{"response": "Red.", "overall_score": 2}, \
{"response": "Blue.", "overall_score": 9}]}
"""

ADDED: Mapping[str, Edits] = {
    "a filter": {
        f"{CORE}/filter/dummy.rs": [write(FILTER)],
        f"{CORE}/filter/mod.rs": [
            behind(r"\nmod length;", "\nmod dummy;"),
            behind(r"FILTERS: \[\(&str, Build\); (\d+)\] =\s*\[", '("dummy", dummy::build), '),
        ],
    },
    "a row shape": {
        f"{CORE}/read/mod.rs": [behind(r"pub const VERSION: u32 = (\d+);", "")],
        f"{CORE}/read/shape/dummy.rs": [write(SHAPE)],
        f"{CORE}/read/shape/mod.rs": [
            behind(r"\nmod cursor;", "\nmod dummy;"),
            behind(
                r"SHAPES: \[Shape; (\d+)\] =\s*\[",
                'Shape { name: "dummy", told_by: &["dummy"], compares: false, '
                "reader: Reader::Row(dummy::parse) }, ",
            ),
        ],
        "rust/core/tests/twins/slow/rows.rs": [
            behind(r"match shape \{", '\n        "dummy" => alternating(row),')
        ],
        "rust/core/tests/twins/hostile_rows.jsonl": [write('{"dummy":1,"data":["a"]}\n')],
        "rust/core/tests/twins/read.rs": [
            behind(r"const PIECES: &\[&str\] = &\[", r'"\"dummy\":", ')
        ],
    },
    "a pairing strategy": {
        f"{CORE}/recipe/mod.rs": [
            behind(r"pub enum Strategy \{", '\n        /// As all-lower.\n        Dummy "dummy",')
        ],
        f"{CORE}/binarize/strategy.rs": [
            behind(r"let rejected = match strategy \{", "Strategy::Dummy => lower,"),
            behind(r"Reason::from\(match strategy \{", "Strategy::Dummy => Code::Tie,"),
        ],
    },
    "a bundled template": {"python/zephyr_fast/templates/dummy.jinja": [write(TEMPLATE)]},
    "a recipe key": {
        f"{CORE}/recipe/mod.rs": [
            behind(r"pub struct Dedup \{", "\n    /// A number.\n    pub dummy: u32,"),
            behind(r"fn default\(\) -> Dedup \{\s*Dedup \{", " dummy: 1,"),
        ],
        f"{CORE}/recipe/read.rs": [
            behind(r"let wrong =\s*\|key: &str, rule: &str\|[^;]*;", BOUNDS)
        ],
        f"{CORE}/pipeline/fit.rs": [
            behind(
                r"fn without_effect_on_completions[^{]*\{\s*let keys =\s*\[",
                '("dedup.dummy", recipe.dedup.dummy != 1, "is for dialogues"), ',
            )
        ],
        f"{CORE}/dedup/mod.rs": [
            behind(
                r"pub fn new\(folder: &Folder, dedup: &Dedup\) -> Result<Seen> \{",
                "\n        assert!(dedup.dummy > 0);",
            )
        ],
    },
    "a product": {
        f"{CORE}/dataset/product.rs": [
            behind(
                r"pub enum Product \{",
                '\n    /// Answers.\n    #[serde(rename = "dummy")]\n    Dummy,',
            ),
            behind(
                r"ALL: \[Product; (\d+)\] =\s*\[Product::Windows, Product::Pairs",
                ", Product::Dummy",
            ),
            behind(r"Product::Windows => &WINDOWS,", "Product::Dummy => &DUMMY,"),
            behind(r"type Column = \(Field, String\);", FACTS),
        ],
        f"{CORE}/pipeline/product/dummy.rs": [write(STEPS)],
        f"{CORE}/pipeline/product/mod.rs": [
            behind(r"\nmod pairs;", "\nmod dummy;"),
            behind(r"windows::STEPS, pairs::STEPS", ", dummy::STEPS"),
        ],
        f"{CORE}/recipe/mod.rs": [
            behind(
                r"pub struct Recipe \{",
                '\n    /// Answers.\n    #[serde(default, skip_serializing_if = "Option::is_none")]'
                "\n    pub dummy: Option<Dummy>,",
            ),
            behind(
                r"token_limits\(&self\) -> \[\(&'static str, Option<usize>\); (\d+)\] \{[^\[]*\[",
                '("dummy.max_length", self.dummy.as_ref().map(|dummy| dummy.max_length)), ',
            ),
            write(TABLE_OF_PRODUCT),
        ],
        "python/zephyr_fast/dataset/product.py": [
            behind(r'PAIRS = "preference"', '\n    DUMMY = "dummy"'),
            behind(r"_FACTS = \{", PYTHON_FACTS),
        ],
        "python/zephyr_fast/prepare/run.py": [write(FUNCTION)],
        "python/zephyr_fast/__init__.py": [
            behind(r"prepare\.run import binarize,", " dummy,"),
            behind(r'\n    "binarize",', '\n    "dummy",'),
        ],
        "python/zephyr_fast/train/dummy.py": [write(TRAINING)],
        "python/zephyr_fast/train/__init__.py": [
            behind(r"distill        the loss of an SFT run with a teacher", "\ndummy  a method")
        ],
        "python/zephyr_fast/recipes/dummy.toml": [write("[dummy]\nmax_length = 64\n")],
        "python/zephyr_fast/sample/dummy.jsonl": [write(ANSWERS)],
    },
}

SEEN = """
#[cfg(test)]
mod adding {
    use std::path::Path;

    use super::{Product, names};
    use crate::dataset::verify::verify;
    use crate::pipeline::{fit, show};
    use crate::progress::Watch;

    #[test]
    fn what_was_added_is_in_the_lists() {
        for kind in ["filters", "shapes", "strategies", "templates"] {
            assert!(names(kind).expect("is a list").contains(&"dummy"), "{kind}");
        }
        let recipe = fit::read("[dedup]\\ndummy = 3\\n[[filter]]\\nkind = 'dummy'\\n", "x", &[]);
        assert!(recipe.and_then(|recipe| recipe.to_toml()).expect("prints").contains("dummy = 3"));
        assert!(fit::read("[dedup]\\ndummy = 0\\n", "x", &[]).is_err());
        let pairs = fit::read("[binarize]\\n[dedup]\\ndummy = 3\\n", "x", &[]);
        let refused = pairs.and_then(|mut recipe| fit::resolve(Product::Pairs, &mut recipe));
        assert!(refused.expect_err("does nothing").to_string().starts_with("`dedup.dummy`"));
    }

    #[test]
    fn the_product_that_was_added_is_written() {
        let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../python/zephyr_fast/sample");
        let recipe = sample.join("../recipes/dummy.toml");
        let recipe = std::fs::read_to_string(recipe).expect("is there");
        let shown = show::toml(&recipe, "dummy", &[], true).expect("is a recipe");
        assert!(shown.contains("max_length = 64"), "{shown}");
        let pairs = fit::read(&recipe, "dummy", &[]).and_then(|mut recipe| {
            fit::resolve(Product::Pairs, &mut recipe)
        });
        assert!(pairs.expect_err("has another table").to_string().contains("[dummy] table"));
        let out = tempfile::tempdir().expect("a folder");
        let job = crate::Job {
            product: Product::of_command("dummy").expect("is a command"),
            recipe: fit::read(&recipe, "dummy", &[]).expect("is a recipe"),
            recipe_name: "dummy".to_owned(),
            inputs: vec![sample.join("dummy.jsonl")],
            tokenizer: Some(sample.join("tokenizer")),
            out: out.path().join("out"),
            options: crate::RunOptions::default(),
        };
        let manifest = crate::run(job, &Watch::default()).expect("runs");
        assert_eq!(manifest.rows.written, 2);
        assert_eq!(manifest.splits.values().map(|split| split.examples).sum::<u64>(), 3);
        let trained = names("trained_columns:dummy").expect("is a list");
        assert_eq!(trained, ["prompt_ids", "completion_ids"]);
        verify(&out.path().join("out"), &Watch::default()).expect("is intact");
        println!("added in {}", env!("CARGO_MANIFEST_DIR"));
    }
}
"""
