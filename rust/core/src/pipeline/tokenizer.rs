//! Writes the tokenizer and the template of a run, and describes them in the manifest.

use crate::dataset::layout::TOKENIZER;
use crate::dataset::manifest::{FileEntry, TemplateInfo, TokenizerInfo};
use crate::dataset::out_folder::OutputDir;
use crate::disk::commit::commit_bytes;
use crate::encode::Encoding;
use crate::error::Result;

/// Writes the tokenizer and the template, so training needs no other files.
pub(super) fn write_tokenizer(encoding: &Encoding, folder: &OutputDir) -> Result<Vec<FileEntry>> {
    let target = folder.folder(TOKENIZER)?;
    let files = encoding.tokenizer.files(encoding.template.text())?;
    files
        .into_iter()
        .map(|(name, bytes)| {
            Ok(FileEntry::new(&format!("{TOKENIZER}/{name}"), commit_bytes(&target, name, &bytes)?))
        })
        .collect()
}

/// Describes the tokenizer.
pub(super) fn tokenizer_card(encoding: &Encoding) -> TokenizerInfo {
    let Encoding { tokenizer, .. } = encoding;
    let special = &tokenizer.special;
    TokenizerInfo {
        sha256: tokenizer.sha256.clone(),
        vocab_size: tokenizer.vocab_size(),
        bos: special.bos.clone(),
        eos: special.eos.clone(),
        pad: special.pad.clone().or_else(|| special.eos.clone()),
    }
}

/// Describes the template.
pub(super) fn template_card(encoding: &Encoding) -> TemplateInfo {
    let Encoding { template, .. } = encoding;
    TemplateInfo {
        name: template.name().to_owned(),
        sha256: template.sha256(),
        end_tokens: encoding.end_tokens(),
        ends: template.ends(),
        foreign_markers: encoding.foreign_markers(),
    }
}
