//! Finds the chat template of a recipe: the tokenizer's own, a bundled one or a file.

use std::path::Path;

use crate::disk;
use crate::error::{Error, Result};
use crate::recipe::{self, Compat, Recipe, TrainEnd};
use crate::template::{TEMPLATES, Template, TemplateSource};
use crate::tokenize::{OwnTemplate, Tokenizer};

/// Maximum size of a template's file in bytes. Real templates are far smaller.
const TEMPLATE_FILE_BYTES_MAX: usize = 1 << 20;

/// The names of the tokenizer's own template in recipes. If it has none, [`AUTO`] is [`OF_BASE`].
const OF_TOKENIZER: &str = "tokenizer";
const AUTO: &str = "auto";

/// The template for a base model whose tokenizer has no template. Zephyr was trained on such a
/// model with it.
pub(super) const OF_BASE: &str = "zephyr";

/// Returns the template of a recipe as the JSON of a [`TemplateSource`] unless it is bundled.
/// Such a template must first be tried with a canary.
pub fn unknown_template(recipe: &Recipe, tokenizer: &Path) -> Result<Option<String>> {
    if packaged(&recipe.template.name).is_some() {
        return Ok(None);
    }
    // The tokenizer is loaded only for the canary, because that is slower than the rest of a small
    // run.
    let (_, text) = template_text(&recipe.template.name, &Tokenizer::own_template(tokenizer)?)?;
    if Template::bundled_name(&text).is_some() {
        return Ok(None);
    }
    let source = template_source(recipe, &Tokenizer::load(tokenizer)?)?;
    serde_json::to_string(&source).map(Some).map_err(|error| Error::Internal(error.to_string()))
}

/// The recipe's template, with everything that loading it needs.
pub(crate) fn template_source(recipe: &Recipe, tokenizer: &Tokenizer) -> Result<TemplateSource> {
    let recipe::Template { name, date, args } = &recipe.template;
    let (name, text) = template_text(name, &tokenizer.chat_template)?;
    // In that mode, every token is trained on, including an EOS after each text.
    let is_trl07 = recipe.compat == Compat::Trl07;
    Ok(TemplateSource {
        name,
        text,
        special: tokenizer.special.clone(),
        control: tokenizer.special_texts(),
        date: date.clone(),
        args: args.clone(),
        train_end: if is_trl07 { TrainEnd::AsIs } else { recipe.tokenize.train_end },
    })
}

/// Name and text of a template. A tokenizer's own that equals a bundled one gets its name.
fn template_text(name: &str, own: &OwnTemplate) -> Result<(String, String)> {
    if let Some(text) = packaged(name) {
        return Ok((name.to_owned(), text.to_owned()));
    }
    let unusable = |why: &str| Error::Config(format!("`template.name = \"{name}\"`: {why}"));
    match (name, own) {
        (AUTO, None) => template_text(OF_BASE, own),
        (AUTO | OF_TOKENIZER, Some(Ok(text))) => {
            let known = Template::bundled_name(text).filter(|_| name == AUTO);
            Ok((known.unwrap_or(OF_TOKENIZER).to_owned(), text.clone()))
        }
        (AUTO | OF_TOKENIZER, Some(Err(why))) => Err(unusable(&format!(
            "{why}; use a .jinja file or one of: {}",
            template_names().join(", ")
        ))),
        (OF_TOKENIZER, None) => Err(unusable("the tokenizer has no chat template")),
        (path, _) => template_file(path),
    }
}

/// The text of a bundled template.
fn packaged(name: &str) -> Option<&'static str> {
    TEMPLATES.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// The template names that recipes can use. Any other value is the path of a file.
#[must_use]
pub fn template_names() -> Vec<&'static str> {
    [AUTO, OF_TOKENIZER].into_iter().chain(TEMPLATES.iter().map(|(name, _)| *name)).collect()
}

fn template_file(path: &str) -> Result<(String, String)> {
    let failed = |error: &dyn std::fmt::Display| {
        Error::Config(format!(
            "cannot read template `{path}`: {error}; use a .jinja file or one of: {}",
            template_names().join(", ")
        ))
    };
    let bytes =
        disk::read(Path::new(path), TEMPLATE_FILE_BYTES_MAX).map_err(|error| failed(&error))?;
    let text = String::from_utf8(bytes).map_err(|error| failed(&error))?;
    let base = Path::new(path)
        .file_name()
        .map_or_else(|| path.to_owned(), |base| base.to_string_lossy().into_owned());
    Ok((base, text))
}
