//! The data card: what a folder's reader sees first, and what tells `datasets` which files belong to which split.

use std::fmt::Write;

use crate::manifest::{Decontamination, Kind, Manifest};
use crate::recipe::Action;

/// Its file name.
pub const FILE: &str = "README.md";

/// The card of a data set. It states sums and digests; no time, host or path.
#[must_use]
pub fn print(manifest: &Manifest) -> String {
    let mut card = String::from("---\nconfigs:\n");
    let (config, files) = if manifest.tokenizer.is_some() { ("tokens", "*.arrow") } else { ("text", "*.parquet") };
    let _ = write!(card, "- config_name: {config}\n  default: true\n  data_files:\n");
    for split in manifest.splits.keys() {
        let folder = if config == "text" { "text/" } else { "" };
        let _ = write!(card, "  - split: {split}\n    path: \"{folder}{split}-{files}\"\n");
    }
    let what = match (manifest.kind, config) {
        (Kind::Sft, "text") => "dialogues for supervised fine-tuning",
        (Kind::Sft, _) => "packed samples for supervised fine-tuning",
        (Kind::Preference, _) => "preference pairs",
    };
    let rows = &manifest.rows;
    let _ = write!(card, "---\n\n# {}: {what}\n\nMade by {}", manifest.recipe.name, manifest.engine);
    if let (Some(tokenizer), Some(template)) = (&manifest.tokenizer, &manifest.template) {
        let _ = write!(card, " with the tokenizer `{}` and the `{}` template", &tokenizer.sha256[..12], template.name);
    }
    let _ = write!(card, ". Fingerprint `{}`.\n\n", &manifest.fingerprint[..16]);
    let _ = writeln!(card, "| rows | count |\n|---|---|\n| read | {} |\n| written | {} |", rows.read, rows.written);
    for (verdict, reasons) in [("dropped", &rows.dropped), ("duplicate", &rows.duplicates), ("quarantined", &rows.quarantined)] {
        for (reason, count) in reasons {
            let _ = writeln!(card, "| {verdict}: {reason} | {count} |");
        }
    }
    if config == "text" {
        card.push_str("\n| split | dialogues | rows of text |\n|---|---|---|\n");
    } else {
        card.push_str("\n| split | rows | samples | tokens | trained | lost |\n|---|---|---|---|---|---|\n");
    }
    for (name, split) in &manifest.splits {
        let _ = write!(card, "| {name} | {} | {} |", split.rows, split.samples);
        if config != "text" {
            let _ = write!(card, " {} | {} | {} |", split.tokens, split.trained_tokens, split.tokens_lost);
        }
        card.push('\n');
    }
    decontamination(&mut card, manifest);
    // Not a config: `datasets` reads all configs of a card with the reader of the first one's files.
    if config == "text" {
        card.push_str("\nText alone, made without a tokenizer: no control tokens were looked for.\n");
    } else if manifest.splits.values().any(|split| !split.text.is_empty()) {
        card.push_str("\nThe cleaned text lies in `text/`: `load_dataset(FOLDER, data_dir=\"text\")`.\n");
    }
    card.push_str("\n`manifest.json` has the recipe and a digest of every file.\n");
    card
}

fn decontamination(card: &mut String, manifest: &Manifest) {
    let Decontamination { status, action, threshold, rows_matched, sets } = &manifest.decontamination;
    let _ = write!(card, "\nDecontamination: {status}");
    let (Some(action), Some(threshold)) = (action, threshold) else {
        card.push_str(".\n");
        return;
    };
    let done = match action {
        Action::Drop => "dropped",
        Action::Flag => "kept and flagged in the ledger",
    };
    let _ = writeln!(
        card,
        "; {rows_matched} rows {done}. An instance is matched by a row whose user turns have more than {:.0} % of its words in shared \
         8-grams; a set with more than 2 % of its instances matched counts as contaminated (Tulu 3).\n",
        threshold * 100.0
    );
    let _ = writeln!(card, "| evaluation set | instances | matched | share | rows | rows with an exact match |\n|---|---|---|---|---|---|");
    for set in sets {
        let note = if set.contaminated { " (contaminated)" } else { "" };
        let (instances, matched, share) = (set.instances, set.instances_matched, set.share * 100.0);
        let _ =
            writeln!(card, "| {}{note} | {instances} | {matched} | {share:.1} % | {} | {} |", set.name, set.rows_matched, set.rows_exact);
    }
}
