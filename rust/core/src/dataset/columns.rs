//! Writes `docs/columns.json`: the columns of the ledger, the shards and the text, with types from
//! the schemas that write them. `docs/reference` prints it.
//!
//! A test compares the committed file. After a change of a column,
//! `ZEPHYR_FAST_RENEW_SCHEMA=1 cargo test columns` writes it.

use arrow_schema::{DataType, Fields};
use serde_json::{Map, Value, json};

use crate::dataset::ledger;
use crate::dataset::manifest_schema::{check_committed, join_lines};
use crate::dataset::product::Product;
use crate::error::{Error, Result};

/// Describes the columns of shards. The ledger's are described where they are declared.
fn of_shard(column: &str) -> Option<&'static str> {
    Some(match column {
        "input_ids" => "Token ids of the documents in this sequence, in a row.",
        "labels" => "Label of each token: its id, or -100 if no loss is computed for it.",
        "seq_lengths" => "Number of tokens of each document.",
        "row_ids" => "`row_id` of the input row of each document.",
        "prompt_ids" => "Token ids of the prompt.",
        "chosen_ids" => "Token ids of the chosen completion.",
        "rejected_ids" => "Token ids of the rejected completion.",
        "score_chosen" => "Score of the chosen completion, if the source has scores.",
        "score_rejected" => "Score of the rejected completion, if the source has scores.",
        "row_id" => "`row_id` of the input row.",
        "pair" => "Index of the pair among those of its row, from 0.",
        _ => return None,
    })
}

/// Describes the columns of the text.
fn of_text(column: &str) -> Option<&'static str> {
    Some(match column {
        "prompt" => "First user message.",
        "prompt_id" => "SHA-256 of the prompt.",
        "messages" => "Messages of the dialogue. For a pair, the same as `chosen`.",
        "chosen" => "Messages of the prompt and the chosen completion.",
        "rejected" => "Messages of the prompt and the rejected completion.",
        "score_chosen" | "score_rejected" => return of_shard(column),
        _ => return None,
    })
}

/// The columns of one kind of file, each with its description.
fn columns(fields: &Fields, described: &dyn Fn(&str) -> Option<String>) -> Vec<Value> {
    let mut found = Vec::new();
    for field in fields {
        let described_here = described(field.name());
        assert!(described_here.is_some(), "`{}` has no description", field.name());
        found.push(json!({
            "name": field.name(),
            "type": word(field.data_type()),
            "nullable": field.is_nullable(),
            "description": described_here,
        }));
    }
    found
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
    let text = |comments: &Map<String, Value>, name: &str| {
        comments.get(name).and_then(Value::as_str).map(str::to_owned)
    };
    let outer = columns(ledger::schema().fields(), &|name| text(&entry, name));
    let inner = columns(&ledger::contamination_fields(), &|name| text(&found, name));
    Ok((outer, inner))
}

#[test]
fn the_committed_columns_are_those_that_are_written() -> Result<()> {
    let (entry, contamination) = of_ledger()?;
    let shard = |product: Product| {
        columns(product.shard_schema().fields(), &|name| of_shard(name).map(str::to_owned))
    };
    let text = |product: Product| {
        columns(product.text_schema().fields(), &|name| of_text(name).map(str::to_owned))
    };
    let mut all = Map::new();
    all.insert("ledger".to_owned(), json!(entry));
    all.insert("ledger.contamination".to_owned(), json!(contamination));
    for product in Product::ALL {
        all.insert(format!("shards.{}", product.word()), json!(shard(product)));
        all.insert(format!("text.{}", product.word()), json!(text(product)));
    }
    check_committed("docs/columns.json", &Value::Object(all))
}
