//! Writes `docs/columns.json`: the columns of the ledger, the shards and the text, with types from
//! the schemas that write them. `docs/reference` prints it.
//!
//! A test compares the committed file. After a change of a column,
//! `ZEPHYR_FAST_RENEW_SCHEMA=1 cargo test columns` writes it.

use arrow_schema::{DataType, Field, Fields};
use serde_json::{Map, Value, json};

use crate::dataset::ledger;
use crate::dataset::manifest_schema::{check_committed, join_lines};
use crate::dataset::product::Product;
use crate::error::{Error, Result};

/// The columns of one kind of file, each with its description.
fn columns(columns: impl IntoIterator<Item = (Field, String)>) -> Vec<Value> {
    let column = |(field, described): (Field, String)| {
        json!({
            "name": field.name(),
            "type": word(field.data_type()),
            "nullable": field.is_nullable(),
            "description": described,
        })
    };
    columns.into_iter().map(column).collect()
}

/// The columns of a struct's fields, each with the comment of its field.
fn commented(fields: &Fields, comments: &Map<String, Value>) -> Vec<Value> {
    let described = |field: &Field| {
        let comment = comments.get(field.name()).and_then(Value::as_str);
        comment.unwrap_or_else(|| panic!("`{}` has no description", field.name())).to_owned()
    };
    columns(fields.iter().map(|field| (field.as_ref().clone(), described(field))))
}

fn word(kind: &DataType) -> String {
    match kind {
        DataType::Utf8 => "string".to_owned(),
        DataType::List(item) => format!("list<{}>", word(item.data_type())),
        DataType::Struct(fields) => {
            let fields =
                fields.iter().map(|field| format!("{}: {}", field.name(), word(field.data_type())));
            format!("struct<{}>", fields.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string().to_lowercase(),
    }
}

/// The doc comments of a struct's fields.
fn comments(schema: &Value) -> Map<String, Value> {
    let fields = schema["properties"].as_object().into_iter().flatten();
    fields.map(|(name, field)| (name.clone(), field["description"].clone())).collect()
}

fn of_ledger() -> Result<(Vec<Value>, Vec<Value>)> {
    let schema = |schema: schemars::Schema| {
        let mut schema =
            serde_json::to_value(schema).map_err(|error| Error::Internal(error.to_string()))?;
        join_lines(&mut schema);
        Ok::<_, Error>(comments(&schema))
    };
    let entry = schema(schemars::schema_for!(ledger::LedgerRow))?;
    let found = schema(schemars::schema_for!(ledger::Contamination))?;
    let outer = commented(ledger::schema().fields(), &entry);
    let inner = commented(&ledger::contamination_fields(), &found);
    Ok((outer, inner))
}

#[test]
fn the_committed_columns_are_those_that_are_written() -> Result<()> {
    let (entry, contamination) = of_ledger()?;
    let mut all = Map::new();
    all.insert("ledger".to_owned(), json!(entry));
    all.insert("ledger.contamination".to_owned(), json!(contamination));
    for product in Product::ALL {
        let word = product.facts().word;
        all.insert(format!("shards.{word}"), json!(columns(product.shard_columns())));
        all.insert(format!("text.{word}"), json!(columns(product.text_columns())));
    }
    check_committed("docs/columns.json", &Value::Object(all))
}
