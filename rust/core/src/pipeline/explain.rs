//! Explains, as JSON, how each step processes a row: its changes, text, ids and labels.
//! Deduplication is not included. Also renders dialogues with a template.

use std::ops::Range;
use std::path::Path;

use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::dialogue::{Role, Turn};
use crate::encode::{self, Encoded, Tokens};
use crate::error::{Error, Result};
use crate::pipeline::fit;
use crate::pipeline::row::{Cleaned, Outcome, RowPipeline, Visited};
use crate::read::shape;
use crate::read::shape::role_words::RoleWord;
use crate::read::shape::unread::Unread;
use crate::sample::Rendered;
use crate::template::Template;
use crate::tokenize::Tokenizer;

/// Explains a raw row.
pub fn explain(walk: &RowPipeline, row: &[u8]) -> Result<String> {
    let usual = walk.usual_shape(std::iter::once(row));
    let Visited { shape, id, prompt_id, notes, outcome, unread, role_words } =
        walk.visit(usual, row, row.len() as u64, &mut Unread::default());
    let mut story = json!({
        "shape": shape.map(|shape| shape.name), "id": id, "prompt_id": prompt_id, "letters_changed": notes.letters_changed,
        "phrases": notes.phrases, "control_tokens": notes.control_tokens, "unused_columns": unread,
    });
    story["role_words"] =
        role_words.into_iter().map(|RoleWord { word, role, .. }| (word, role)).collect();
    if let Some(sets) = &walk.evaluation_sets {
        story["contamination"] =
            sets.lines(&notes.contamination).iter().map(|line| json!(line)).collect();
    }
    let outcome = match outcome {
        Outcome::GoingOn(cleaned) => {
            let Cleaned { dialogue, .. } = cleaned.as_ref();
            story["turns"] = dialogue.turns.iter().map(turn_of).collect();
            if let Some(inputs) = &dialogue.inputs {
                story["tools"] = inputs.tools.clone().into();
                story["chat_template_kwargs"] = inputs.args.clone().into();
            }
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

/// A message with its calls, reasoning and other members.
fn turn_of(turn: &Turn) -> Value {
    let mut shown = json!({"role": turn.role.name(), "text": turn.text});
    if let Some(extras) = &turn.extras {
        let members = extras.members.iter().map(|(name, value)| (name.clone(), value.clone()));
        shown.as_object_mut().into_iter().for_each(|shown| shown.extend(members.clone()));
        if turn.role == Role::Assistant && !turn.is_trained() {
            shown["trained"] = false.into();
        }
    }
    shown
}

fn tell_tokens(walk: &RowPipeline, cleaned: &Cleaned, encoded: Encoded, story: &mut Value) {
    story["tokens_truncated"] = encoded.tokens_truncated.into();
    if !cleaned.doubts.is_empty() {
        let doubts: Vec<&str> = cleaned.doubts.iter().map(|code| code.word()).collect();
        story["doubtful_pairs"] = doubts.into();
    }
    match encoded.tokens {
        Tokens::None => {}
        Tokens::Sample(sample) => {
            let rendered = walk
                .encoding
                .as_ref()
                .and_then(|encoding| encoding.template.render(&cleaned.dialogue).ok());
            story["text"] = rendered.map(|rendered| rendered.text.clone()).into();
            story["labels"] = sample.labels().into();
            story["ids"] = sample.ids.into();
        }
        Tokens::Answered(answered) => {
            let Some(completions) = walk.product.completions() else { return };
            let examples = cleaned.examples.iter().zip(&answered.examples).map(|(texts, ids)| {
                let mut shown = serde_json::Map::new();
                let each = || completions.each.iter();
                shown.extend(
                    each()
                        .zip(&texts.completions)
                        .map(|(one, text)| (one.text.to_owned(), json!(text))),
                );
                shown.extend(
                    completions
                        .numbers
                        .iter()
                        .zip(&texts.numbers)
                        .map(|((name, _), number)| ((*name).to_owned(), json!(number))),
                );
                shown.insert("prompt_ids".to_owned(), json!(answered.prompt_ids));
                shown.extend(each().zip(ids).map(|(one, ids)| (one.ids.to_owned(), json!(ids))));
                Value::Object(shown)
            });
            story[completions.unit] = examples.collect();
        }
    }
}

/// Renders dialogues, each a list of messages, or a row with `messages` and what else it passes to
/// the template. Returns text and label ranges in characters, or a reason. With `prompt`, renders
/// the generation prompt, which has no ranges. `template` is a name or path, or the text of a
/// recipe, which has several lines.
pub fn render(tokenizer: &Path, template: &str, dialogues: &str, prompt: bool) -> Result<String> {
    let dialogues: Vec<&RawValue> = serde_json::from_str(dialogues)
        .map_err(|error| Error::Config(format!("invalid dialogues: {error}")))?;
    let tokenizer = Tokenizer::load(tokenizer)?;
    let template = template_of(template, &tokenizer)?;
    let shape = shape::named("messages")?;
    let rendered = dialogues.into_iter().map(|dialogue| {
        let mut row = dialogue.get().to_owned();
        if row.starts_with('[') {
            row = format!("{{\"messages\":{row}}}");
        }
        let rendered = shape.parse(row.as_bytes()).and_then(|dialogue| {
            if prompt {
                let text = template.render_prompt(&dialogue)?;
                Ok(Rendered { text, ..Rendered::default() })
            } else {
                template.render(&dialogue).map(|rendered| Rendered::clone(&rendered))
            }
        });
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
