//! Shows a recipe as it runs: checked, with every default and with the choices of its preset.

use super::{fit, product};
use crate::error::Result;

/// Returns a recipe with every key as TOML, either as written or as it runs. The arguments are
/// those of [`fit::read`].
pub fn toml(
    text: &str,
    name: &str,
    overrides: &[(String, String)],
    as_run: bool,
) -> Result<String> {
    if as_run { show(text, name, overrides) } else { fit::read(text, name, overrides)?.to_toml() }
}

/// Returns a recipe as it runs.
///
/// A recipe with the table of a product is shown as its command runs it, any other as `prep` does.
fn show(text: &str, name: &str, overrides: &[(String, String)]) -> Result<String> {
    let mut recipe = fit::read(text, name, overrides)?;
    fit::resolve(product::of_recipe(&recipe), &mut recipe)?;
    recipe.show()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shown_recipe_has_every_value_and_reads_back_as_itself() {
        let text = "[source]\nhub = 'a/b'\nfiles = '*.jsonl'\nrevision = 'main'\n[tokenize]\n\
            tokenizer = 'c/d'\n[template]\nname = 'dir/own.jinja'\n[binarize]\npreset = 'argilla'\n\
            [[decontaminate.against]]\nname = 'mt'\npath = 'eval/mt.jsonl'\nfield = 'turns'\n";
        let shown = show(text, "x", &[]).expect("is a recipe");
        for line in [
            "hub = \"a/b\"",
            "files = \"*.jsonl\"",
            "revision = \"main\"",
            "tokenizer = \"c/d\"",
            "name = \"dir/own.jinja\"",
            "path = \"eval/mt.jsonl\"",
            "strategy = \"best-vs-random-lower\"",
            "seed = 42",
        ] {
            assert!(shown.lines().any(|found| found == line), "{line} in\n{shown}");
        }
        assert_eq!(show(&shown, "x", &[]).expect("reads back"), shown);
    }
}
