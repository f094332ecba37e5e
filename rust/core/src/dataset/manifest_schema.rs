//! Writes the manifest's JSON Schema, `docs/manifest.schema.json`, from the types that write the
//! manifest itself.
//!
//! A test compares the committed file, to which another test holds what Python reads. After a
//! change of the manifest, `ZEPHYR_FAST_RENEW_SCHEMA=1 cargo test manifest_schema` writes it again.

use std::path::Path;

use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use crate::dataset::manifest::{Manifest, SCHEMA};
use crate::error::{Error, Result};

/// The schema of a written manifest: a field is required unless it may be omitted.
fn schema() -> Result<Value> {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    let schema = settings.into_generator().into_root_schema_for::<Manifest>();
    let mut schema =
        serde_json::to_value(schema).map_err(|error| Error::Internal(error.to_string()))?;
    // `Manifest::to_json` adds the digest to the text, so the types do not have it.
    let digest = json!({
        "description": "SHA-256 of all the text before this field, which is the last one.",
        "type": "string",
    });
    schema["properties"]["sha256"] = digest;
    if let Some(required) = schema["required"].as_array_mut() {
        required.push(json!("sha256"));
    }
    schema["properties"]["schema"]["const"] = json!(SCHEMA);
    join_lines(&mut schema);
    Ok(schema)
}

/// Takes the line breaks of comments out of the descriptions that were made of them.
pub(crate) fn join_lines(node: &mut Value) {
    match node {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if name == "description" => *text = text.replace('\n', " "),
                    _ => join_lines(value),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(join_lines),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Compares a committed file with the text that it should have, or writes it if
/// `ZEPHYR_FAST_RENEW_SCHEMA` is set. `file` is relative to the root of the repository.
pub(crate) fn check_committed(file: &str, wanted: &Value) -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(file);
    let text =
        serde_json::to_string_pretty(wanted).map_err(|error| Error::Internal(error.to_string()))?;
    let text = format!("{text}\n");
    if std::env::var_os("ZEPHYR_FAST_RENEW_SCHEMA").is_some() {
        std::fs::write(&path, &text).map_err(|error| Error::input(&path, error))?;
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        text == committed,
        "{file} is not up to date; run again with ZEPHYR_FAST_RENEW_SCHEMA=1"
    );
    Ok(())
}

#[test]
fn the_committed_schema_is_that_of_the_manifests_types() -> Result<()> {
    check_committed("docs/manifest.schema.json", &schema()?)
}
