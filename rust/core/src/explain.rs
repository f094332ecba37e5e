//! The whole walk of one row, as JSON: what each stage made of it, its text, its ids and what is trained. Dedup is left out.

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::stage::Reason;
use crate::walk::{Alive, Fate, Tokens, Visited, Walk};

/// Explains a raw row.
pub fn explain(walk: &Walk, row: &[u8]) -> Result<String> {
    let shape = walk.shape(std::iter::once(row));
    let Visited { id, prompt_id, notes, fate } = walk.visit(shape, row, row.len() as u64);
    let mut story = json!({
        "shape": shape.name, "id": id, "prompt_id": prompt_id, "fixes": notes.fixes, "phrases": notes.phrases,
    });
    if let Some(sets) = &walk.evaluation_sets {
        story["contamination"] = sets.lines(&notes.contamination).iter().map(|line| json!(line)).collect();
    }
    match fate {
        Fate::Alive(alive) => alive_story(walk, &alive, &mut story)?,
        gone => end(&mut story, &gone),
    }
    serde_json::to_string(&story).map_err(|error| Error::Internal(error.to_string()))
}

fn alive_story(walk: &Walk, alive: &Alive, story: &mut Value) -> Result<()> {
    let turns: Vec<Value> = alive.dialogue.turns.iter().map(|turn| json!({"role": turn.role.name(), "text": turn.text})).collect();
    story["turns"] = turns.into();
    story["split"] = walk.split(&alive.dialogue).into();
    let product = match walk.finish(alive)? {
        Ok(product) => product,
        Err(gone) => {
            end(story, &gone);
            return Ok(());
        }
    };
    story["verdict"] = "written".into();
    story["tokens_lost"] = product.tokens_lost.into();
    match product.tokens {
        Tokens::Sample(sample) => {
            story["text"] = walk.template.render(&alive.dialogue.turns).map(|rendered| rendered.text).unwrap_or_default().into();
            story["labels"] = sample.labels().into();
            story["ids"] = sample.ids.into();
        }
        Tokens::Pairs(pairs) => {
            let texts = alive.pairs.iter().zip(pairs).map(|(text, (_, ids))| {
                json!({
                    "chosen": text.chosen, "rejected": text.rejected,
                    "score_chosen": text.score_chosen, "score_rejected": text.score_rejected,
                    "prompt_ids": ids.prompt_ids, "chosen_ids": ids.chosen_ids, "rejected_ids": ids.rejected_ids,
                })
            });
            story["pairs"] = texts.collect::<Vec<_>>().into();
        }
    }
    Ok(())
}

fn end(story: &mut Value, fate: &Fate) {
    let (verdict, reason): (&str, Option<&Reason>) = match fate {
        Fate::Alive(_) => ("written", None),
        Fate::Dropped(reason) => ("dropped", Some(reason)),
        Fate::Quarantined(reason) | Fate::Unreadable(reason) => ("quarantined", Some(reason)),
    };
    story["verdict"] = verdict.into();
    story["reason"] = reason.map(|reason| reason.code).into();
    story["detail"] = reason.and_then(|reason| reason.detail.clone()).into();
}
