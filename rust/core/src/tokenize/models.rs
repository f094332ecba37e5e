//! The model of a tokenizer, as implemented by the `tokenizers` crate. Its parts are checked before
//! the crate parses them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use tokenizers::models::ModelWrapper;
use tokenizers::{Model, Result, Token};

/// Maximum size of a unigram model's piece in bytes. At each position of a text, all pieces that
/// may start there are compared.
const PIECE_BYTES_MAX: usize = 1 << 8;

/// A model that was looked at.
#[derive(Debug)]
pub(super) struct Models(ModelWrapper);

impl Models {
    /// The crate's own.
    pub(super) fn inner(&self) -> &ModelWrapper {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Models {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Models, D::Error> {
        let mut part = Value::deserialize(deserializer)?;
        check_pieces(&part).map_err(D::Error::custom)?;
        // Distinguishes models as the crate does, but without its intermediate copies.
        let name = part.as_object_mut().and_then(|fields| fields.remove("type"));
        let model = match name.as_ref().and_then(Value::as_str) {
            Some("BPE") => serde_json::from_value(part).map(ModelWrapper::BPE),
            Some("WordPiece") => serde_json::from_value(part).map(ModelWrapper::WordPiece),
            Some("WordLevel") => serde_json::from_value(part).map(ModelWrapper::WordLevel),
            Some("Unigram") => serde_json::from_value(part).map(ModelWrapper::Unigram),
            Some(other) => {
                return Err(D::Error::custom(format!("unsupported model type `{other}`")));
            }
            None => serde_json::from_value(part),
        };
        model.map(Models).map_err(D::Error::custom)
    }
}

/// Checks the pieces of a unigram model. For a long piece, the crate builds a trie so deep that it
/// overflows the stack.
fn check_pieces(model: &Value) -> std::result::Result<(), String> {
    let pieces = model["vocab"].as_array().into_iter().flatten();
    match pieces.filter_map(|piece| piece[0].as_str()).map(str::len).max() {
        Some(longest) if longest > PIECE_BYTES_MAX => {
            Err(format!("its longest piece has {longest} bytes (limit: {PIECE_BYTES_MAX})"))
        }
        _ => Ok(()),
    }
}

impl Model for Models {
    type Trainer = <ModelWrapper as Model>::Trainer;

    fn tokenize(&self, text: &str) -> Result<Vec<Token>> {
        self.0.tokenize(text)
    }

    fn token_to_id(&self, token: &str) -> Option<u32> {
        self.0.token_to_id(token)
    }

    fn id_to_token(&self, id: u32) -> Option<String> {
        self.0.id_to_token(id)
    }

    fn get_vocab(&self) -> HashMap<String, u32> {
        self.0.get_vocab()
    }

    fn get_vocab_size(&self) -> usize {
        self.0.get_vocab_size()
    }

    fn save(&self, folder: &Path, prefix: Option<&str>) -> Result<Vec<PathBuf>> {
        self.0.save(folder, prefix)
    }

    fn get_trainer(&self) -> Self::Trainer {
        self.0.get_trainer()
    }
}
