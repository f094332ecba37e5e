//! The data card: what a folder's reader sees first, and what tells `datasets` which files belong to which split.

use std::fmt::Write;

use crate::manifest::{Kind, Manifest};

/// Its file name.
pub const FILE: &str = "README.md";

/// The card of a data set. It states sums and digests; no time, host or path.
#[must_use]
pub fn print(manifest: &Manifest) -> String {
    let mut card = String::from("---\nconfigs:\n");
    config(&mut card, "tokens", manifest, "arrow");
    if manifest.splits.values().any(|split| !split.text.is_empty()) {
        config(&mut card, "text", manifest, "parquet");
    }
    let what = match manifest.kind {
        Kind::Sft => "packed samples for supervised fine-tuning",
        Kind::Preference => "preference pairs",
    };
    let rows = &manifest.rows;
    let _ = write!(
        card,
        "---\n\n# {}: {what}\n\nMade by {} with the tokenizer `{}` and the `{}` template. Fingerprint `{}`.\n\n",
        manifest.recipe.name,
        manifest.engine,
        &manifest.tokenizer.sha256[..12],
        manifest.template.name,
        &manifest.fingerprint[..16]
    );
    let _ = writeln!(card, "| rows | count |\n|---|---|\n| read | {} |\n| written | {} |", rows.read, rows.written);
    for (verdict, reasons) in [("dropped", &rows.dropped), ("duplicate", &rows.duplicates), ("quarantined", &rows.quarantined)] {
        for (reason, count) in reasons {
            let _ = writeln!(card, "| {verdict}: {reason} | {count} |");
        }
    }
    let _ = writeln!(card, "\n| split | rows | samples | tokens | trained | lost |\n|---|---|---|---|---|---|");
    for (name, split) in &manifest.splits {
        let (tokens, trained, lost) = (split.tokens, split.trained_tokens, split.tokens_lost);
        let _ = writeln!(card, "| {name} | {} | {} | {tokens} | {trained} | {lost} |", split.rows, split.samples);
    }
    let _ = write!(card, "\nDecontamination: {}. `manifest.json` has the recipe and a digest of every file.\n", manifest.decontamination);
    card
}

fn config(card: &mut String, name: &str, manifest: &Manifest, ending: &str) {
    let folder = if ending == "arrow" { "" } else { "text/" };
    let default = if ending == "arrow" { "\n  default: true" } else { "" };
    let _ = write!(card, "- config_name: {name}{default}\n  data_files:\n");
    for split in manifest.splits.keys() {
        let _ = write!(card, "  - split: {split}\n    path: \"{folder}{split}-*.{ending}\"\n");
    }
}
