//! Explains, as JSON, how each step processes a row: its changes, text, ids and labels.
//! Deduplication is not included. Also renders dialogues with a template.

use std::ops::Range;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::dialogue::{Role, Turn};
use crate::encode::{self, Encoded, Tokens};
use crate::error::{Error, Result};
use crate::pipeline::fit;
use crate::pipeline::row::{Cleaned, Outcome, RowPipeline, Visited};
use crate::sample::Rendered;
use crate::template::Template;
use crate::tokenize::Tokenizer;

/// Explains a raw row.
pub fn explain(walk: &RowPipeline, row: &[u8]) -> Result<String> {
    let usual = walk.usual_shape(std::iter::once(row));
    let Visited { shape, id, prompt_id, notes, outcome } = walk.visit(usual, row, row.len() as u64);
    let mut story = json!({
        "shape": shape.map(|shape| shape.name), "id": id, "prompt_id": prompt_id, "letters_changed": notes.letters_changed,
        "phrases": notes.phrases, "control_tokens": notes.control_tokens,
    });
    if let Some(sets) = &walk.evaluation_sets {
        story["contamination"] =
            sets.lines(&notes.contamination).iter().map(|line| json!(line)).collect();
    }
    let outcome = match outcome {
        Outcome::GoingOn(cleaned) => {
            let Cleaned { dialogue, .. } = cleaned.as_ref();
            story["turns"] = dialogue
                .turns
                .iter()
                .map(|turn| json!({"role": turn.role.name(), "text": turn.text}))
                .collect();
            story["split"] = walk.split(dialogue).into();
            walk.finish(cleaned)
        }
        ended => ended,
    };
    let (name, reason) = outcome.name_and_reason();
    story["outcome"] = name.into();
    match outcome {
        Outcome::Written(cleaned, encoded) => tell_tokens(walk, &cleaned, encoded, &mut story),
        _ => {
            story["reason"] = reason.map(|reason| reason.code.word()).into();
            story["detail"] = reason.and_then(|reason| reason.detail.clone()).into();
        }
    }
    serde_json::to_string(&story).map_err(|error| Error::Internal(error.to_string()))
}

fn tell_tokens(walk: &RowPipeline, cleaned: &Cleaned, encoded: Encoded, story: &mut Value) {
    story["tokens_truncated"] = encoded.tokens_truncated.into();
    match encoded.tokens {
        Tokens::None => {}
        Tokens::Sample(sample) => {
            let rendered = walk
                .encoding
                .as_ref()
                .and_then(|encoding| encoding.template.render(&cleaned.dialogue.turns).ok());
            story["text"] = rendered.map(|rendered| rendered.text.clone()).into();
            story["labels"] = sample.labels().into();
            story["ids"] = sample.ids.into();
        }
        Tokens::Pairs(pairs) => {
            let texts = cleaned.pairs.iter().zip(pairs).map(|(text, (_, ids))| {
                json!({
                    "chosen": text.chosen, "rejected": text.rejected,
                    "score_chosen": text.score_chosen, "score_rejected": text.score_rejected,
                    "prompt_ids": ids.prompt_ids, "chosen_ids": ids.chosen_ids,
                    "rejected_ids": ids.rejected_ids,
                })
            });
            story["pairs"] = texts.collect::<Vec<_>>().into();
        }
    }
}

/// A message as in chat templates and `transformers`.
#[derive(Deserialize)]
struct Message {
    role: String,
    content: String,
}

/// Renders dialogues, each a list of messages. Returns text and label ranges in characters, or a
/// reason. With `prompt`, renders the generation prompt, which has no ranges. `template` is a name
/// or path, or the text of a recipe, which has several lines.
pub fn render(tokenizer: &Path, template: &str, dialogues: &str, prompt: bool) -> Result<String> {
    let dialogues: Vec<Vec<Message>> = serde_json::from_str(dialogues)
        .map_err(|error| Error::Config(format!("invalid dialogues: {error}")))?;
    let tokenizer = Tokenizer::load(tokenizer)?;
    let template = template_of(template, &tokenizer)?;
    let rendered = dialogues.into_iter().map(|messages| {
        let turns: Vec<Turn> = messages
            .into_iter()
            .map(|Message { role, content }| Turn::new(Role::named(role), content))
            .collect();
        let rendered = if prompt {
            template.render_prompt(&turns).map(|text| Rendered { text, ..Rendered::default() })
        } else {
            template.render(&turns).map(|rendered| Rendered::clone(&rendered))
        };
        match rendered {
            Ok(Rendered { text, trained, .. }) => {
                json!({"trained": in_characters(&text, &trained), "text": text})
            }
            Err(reason) => json!({"reason": reason.code.word(), "detail": reason.detail}),
        }
    });
    serde_json::to_string(&rendered.collect::<Vec<_>>())
        .map_err(|error| Error::Internal(error.to_string()))
}

/// Loads a template, given by name or path, or by the text of a recipe, which has several lines.
pub(super) fn template_of(template: &str, tokenizer: &Tokenizer) -> Result<Template> {
    let of_recipe = if template.contains('\n') { template } else { "" };
    let mut recipe = fit::read(of_recipe, "template", &[])?;
    if of_recipe.is_empty() {
        recipe.template.name = template.to_owned();
    }
    Template::load(encode::template_source(&recipe, tokenizer)?)
}

/// Byte ranges as pairs of character numbers.
fn in_characters(text: &str, ranges: &[Range<usize>]) -> Vec<[usize; 2]> {
    let count = |end: usize| text[..end].chars().count();
    ranges.iter().map(|range| [count(range.start), count(range.end)]).collect()
}
