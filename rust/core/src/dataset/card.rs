//! Renders the dataset card (`README.md`). Its front matter lists the files of each split for
//! `datasets`.
//!
//! The front matter contains only names that this program chooses. Names from users (of recipes,
//! templates, evaluation sets) are escaped, so Markdown and HTML cannot read markup in them.

use std::fmt::Write;

use crate::dataset::manifest::{Decontamination, Manifest};
use crate::recipe::Action;

/// Its file name.
pub const FILE: &str = "README.md";

/// Characters of a user's name that are printed.
const NAME_CHARS_MAX: usize = 200;

/// Renders the card of a dataset. It contains counts and digests, but no time, host or path.
#[must_use]
pub fn render(manifest: &Manifest) -> String {
    let mut card = String::from("---\nconfigs:\n");
    let (config, files) =
        if manifest.tokenizer.is_some() { ("tokens", "*.arrow") } else { ("text", "*.parquet") };
    let _ = write!(card, "- config_name: {config}\n  default: true\n  data_files:\n");
    for split in manifest.splits.keys().rev() {
        let folder = if config == "text" { "text/" } else { "" };
        let _ = write!(card, "  - split: {split}\n    path: \"{folder}{split}-{files}\"\n");
    }
    let what = manifest.kind.described(manifest.tokenizer.is_some());
    let rows = &manifest.rows;
    let _ = write!(
        card,
        "---\n\n# {}: {what}\n\nBuilt with {}",
        prose(&manifest.recipe.name),
        manifest.engine
    );
    if let (Some(tokenizer), Some(template)) = (&manifest.tokenizer, &manifest.template) {
        let _ = write!(
            card,
            ", tokenizer `{}` and chat template `{}`",
            &tokenizer.sha256[..12],
            code(&template.name)
        );
        match template.ends.as_slice() {
            [] => card.push_str(" (which ends no assistant message)"),
            ends => {
                let ends: Vec<String> = ends.iter().map(|end| format!("`{}`", code(end))).collect();
                let _ = write!(card, " (assistant messages end with {})", ends.join(" or "));
            }
        }
    }
    let _ = write!(card, ". Fingerprint `{}`.\n\n", &manifest.fingerprint[..16]);
    let _ = writeln!(
        card,
        "| rows | count |\n|---|---|\n| read | {} |\n| written | {} |",
        rows.read, rows.written
    );
    for (outcome, reasons) in [
        ("dropped", &rows.dropped),
        ("duplicate", &rows.duplicates),
        ("quarantined", &rows.quarantined),
    ] {
        for (reason, count) in reasons {
            let _ = writeln!(card, "| {outcome}: {reason} | {count} |");
        }
    }
    if config == "text" {
        card.push_str("\n| split | dialogues | rows of text |\n|---|---|---|\n");
    } else {
        card.push_str(
            "\n| split | rows | examples | tokens | label tokens | truncated |\n|---|---|---|---|---|---|\n",
        );
    }
    for (name, split) in manifest.splits.iter().rev() {
        let _ = write!(card, "| {name} | {} | {} |", split.rows, split.examples);
        if config != "text" {
            let _ = write!(
                card,
                " {} | {} | {} |",
                split.tokens, split.label_tokens, split.tokens_truncated
            );
        }
        card.push('\n');
    }
    decontamination(&mut card, manifest);
    // Not a config: `datasets` reads all configs of a card with the reader of the first one's
    // files.
    if config == "text" {
        card.push_str("\nText only, built without a tokenizer. Control tokens were not checked.\n");
    } else if manifest.splits.values().any(|split| !split.text.is_empty()) {
        card.push_str(
            "\nThe cleaned text is in `text/`; load it with `load_dataset(DIR, data_dir=\"text\")`.\n",
        );
    }
    card.push_str("\n`manifest.json` records the recipe and a checksum of every file.\n");
    card
}

fn decontamination(card: &mut String, manifest: &Manifest) {
    let Decontamination { status, action, threshold, rows_matched, sets } =
        &manifest.decontamination;
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
        "; {rows_matched} rows {done}. A row matches an instance if its user turns contain more \
         than {:.0} % of the instance's words in shared 8-grams. A set counts as contaminated if \
         more than 2 % of its instances match (Tulu 3).\n",
        threshold * 100.0
    );
    let _ = writeln!(
        card,
        "| evaluation set | instances | matched | share | rows | rows with an exact match |\n\
            |---|---|---|---|---|---|"
    );
    for set in sets {
        let note = if set.contaminated { " (contaminated)" } else { "" };
        let (instances, matched, share) = (set.instances, set.instances_matched, set.share * 100.0);
        let (name, rows, exact) = (prose(&set.name), set.rows_matched, set.rows_exact);
        let _ = writeln!(
            card,
            "| {name}{note} | {instances} | {matched} | {share:.1} % | {rows} | {exact} |"
        );
    }
}

/// Formats a user's name for a sentence, heading or cell: unchanged if it cannot contain markup,
/// otherwise as a code span.
fn prose(name: &str) -> String {
    if is_plain(name) { name.to_owned() } else { format!("`{}`", code(name)) }
}

/// Whether the name contains no Markdown syntax, address or emoji, in GitHub's dialect either.
fn is_plain(name: &str) -> bool {
    let chars: Vec<char> = name.chars().collect();
    let is_word = |place: Option<usize>| {
        place.and_then(|place| chars.get(place)).is_some_and(|char| char.is_alphanumeric())
    };
    let fits = |(place, char): (usize, &char)| match char {
        // Elsewhere it is emphasis.
        '_' => is_word(place.checked_sub(1)) && is_word(Some(place + 1)),
        ' ' => place > 0 && place + 1 < chars.len(),
        '-' | '.' | '/' | ',' | '+' | '=' | '(' | ')' | '\'' | '%' => true,
        _ => char.is_alphanumeric(),
    };
    !name.is_empty()
        && chars.len() <= NAME_CHARS_MAX
        && chars.iter().enumerate().all(fits)
        && !name.contains("//")
        && !name.to_lowercase().contains("www.")
}

/// Formats a user's name for a code span, also in a table. Escapes characters that could end
/// either, HTML, links and invisible characters.
fn code(name: &str) -> String {
    let mut safe = String::new();
    for char in name.chars().take(NAME_CHARS_MAX) {
        let is_markup = matches!(char, '`' | '|' | '<' | '>' | '[' | ']');
        if is_markup || is_unseen(char) {
            safe.extend(char.escape_unicode());
        } else {
            safe.push(char);
        }
    }
    if name.chars().nth(NAME_CHARS_MAX).is_some() {
        safe.push('…');
    }
    if safe.is_empty() { "?".to_owned() } else { safe }
}

/// Control characters, line ends, and marks that change text direction or have no width.
fn is_unseen(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}')
        || matches!(char, '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(char, '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{fff0}'..='\u{fffb}')
        || matches!(char, '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::{code, prose};

    #[test]
    fn an_ordinary_name_is_printed_as_it_is() {
        for name in [
            "ultrachat",
            "ultrachat-200k-trl07",
            "mt_bench",
            "mine.toml",
            "recipes/mine.toml",
            "MMLU (5-shot)",
            "日本語",
            "a, b",
        ] {
            assert_eq!(prose(name), name);
        }
        assert_eq!(code("/tmp/zephyr-bos.jinja"), "/tmp/zephyr-bos.jinja");
    }

    #[test]
    fn a_name_cannot_be_markup() {
        let names = [
            "a|b\n# <script>alert(1)</script>\n![x](http://evil/p.png)",
            "*a*",
            "_a_",
            "`a`",
            "[a](b)",
            "<b>",
            "a&lt;b",
            "http://evil",
            "www.evil.org",
            "WWW.evil.org",
            "a@b.org",
            ":smile:",
            "~~a~~",
            "a\\",
            "# a",
            "a\u{202e}b",
            "a\u{1b}[2Jb",
            "a\r\nb",
            "a\u{85}b",
            "a\u{2028}---\nconfigs: x",
            " a",
            "$a$",
            "",
        ];
        for name in names {
            let told = prose(name);
            let inner = told
                .strip_prefix('`')
                .and_then(|rest| rest.strip_suffix('`'))
                .expect("a code span");
            assert!(
                !inner.contains([
                    '`', '|', '<', '>', '[', ']', '\n', '\r', '\u{1b}', '\u{85}', '\u{2028}',
                    '\u{202e}'
                ]),
                "{told}"
            );
        }
    }

    #[test]
    fn a_long_name_is_cut() {
        assert!(prose(&"a".repeat(100_000)).chars().count() < 250);
    }
}
