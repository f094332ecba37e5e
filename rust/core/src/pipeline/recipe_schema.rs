//! Writes the JSON Schema of recipes, `python/zephyr_fast/recipes/recipe.schema.json`, from the
//! types that read them. `zephyr-fast recipe keys` and `docs/reference/recipe.md` print it.
//!
//! Some properties are not standard. `x-command` names the command that uses a key, if only one
//! does. `x-rule` is the rule that its value must keep. `x-sets` has the keys that a preset sets,
//! and `x-drops-duplicates` is its value of `dedup.exact`. They come from the
//! functions that check and resolve recipes.
//!
//! A test compares the committed file. After a change of the recipe,
//! `ZEPHYR_FAST_RENEW_SCHEMA=1 cargo test schema` writes it.

use serde_json::{Value, json};

use super::fit;
use crate::dataset::manifest_schema::{check_committed, join_lines};
use crate::dataset::product::Product;
use crate::error::{Error, Result};
use crate::filter;
use crate::read::shape;
use crate::recipe::Recipe;

const FILE: &str = "python/zephyr_fast/recipes/recipe.schema.json";

/// Values of which each number with a rule refuses at least one.
const PROBES: [&str; 4] = ["0", "0.0", "1.0", "-1.0"];

fn schema() -> Result<Value> {
    let internal = |error: serde_json::Error| Error::Internal(error.to_string());
    let mut schema = serde_json::to_value(schemars::schema_for!(Recipe)).map_err(internal)?;
    schema["title"] = json!("Recipe");
    let mut kinds = Vec::new();
    for (name, filter) in filter::names().iter().zip(filter::schemas()) {
        kinds.push(of_filter(&mut schema, name, serde_json::to_value(filter).map_err(internal)?));
    }
    schema["properties"]["filter"]["items"] = json!({ "oneOf": kinds });
    for (key, pointer) in keys(&schema) {
        let node = schema.pointer_mut(&pointer).expect("was found there");
        if let Some(command) = only_command(&key)? {
            node["x-command"] = json!(command);
        }
        if let Some(rule) = PROBES.iter().find_map(|value| rule_of(&key, value)) {
            node["x-rule"] = json!(rule);
        }
        if key == "source.shape" {
            let names = std::iter::once("auto").chain(shape::names());
            node["enum"] = json!(names.collect::<Vec<_>>());
        }
    }
    add_presets(&mut schema)?;
    join_lines(&mut schema);
    Ok(schema)
}

/// Adds to each preset, as `x-sets`, the keys of `[binarize]` that it sets. Without a preset, a key
/// has the value that `resolve` writes.
fn add_presets(schema: &mut Value) -> Result<()> {
    let resolved = |text: &str| {
        let mut recipe = fit::read(text, FILE, &[])?;
        fit::resolve(Product::Pairs, &mut recipe)?;
        let internal = |error: serde_json::Error| Error::Internal(error.to_string());
        Ok::<_, Error>((
            serde_json::to_value(recipe.binarize).map_err(internal)?,
            recipe.dedup.is_exact(),
        ))
    };
    let (defaults, _) = resolved("[binarize]\n")?;
    let keys = schema["$defs"]["Binarize"]["properties"].as_object_mut().expect("is a struct");
    let optional: Vec<String> = keys
        .iter_mut()
        .filter(|(name, node)| node.get("default").is_none() && !defaults[*name].is_null())
        .map(|(name, node)| {
            node["default"] = defaults[name].clone();
            name.clone()
        })
        .collect();
    for preset in schema["$defs"]["Preset"]["oneOf"].as_array_mut().expect("is an enum") {
        let text = format!("binarize.preset = {}\n", preset["const"]);
        let (sets, drops_duplicates) = resolved(&text)?;
        let sets = optional.iter().map(|key| (key.clone(), sets[key].clone()));
        preset["x-sets"] = Value::Object(sets.collect());
        preset["x-drops-duplicates"] = json!(drops_duplicates);
    }
    Ok(())
}

/// The schema of one kind of filter. Types that it refers to move to the definitions of `schema`.
fn of_filter(schema: &mut Value, name: &str, mut filter: Value) -> Value {
    let fields = filter.as_object_mut().expect("is a struct");
    fields.remove("$schema");
    fields.remove("title");
    if let Some(Value::Object(types)) = fields.remove("$defs") {
        for (name, one) in types {
            schema["$defs"][name] = one;
        }
    }
    filter["properties"]["kind"] = json!({ "const": name });
    match filter["required"].as_array_mut() {
        Some(required) => required.push(json!("kind")),
        None => filter["required"] = json!(["kind"]),
    }
    filter
}

/// The dotted keys outside of lists, each with the JSON pointer of its property.
fn keys(schema: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (name, property) in properties(schema, "") {
        let defined = property["$ref"].as_str().or_else(|| property["anyOf"][0]["$ref"].as_str());
        let within = defined.map(|path| path.trim_start_matches('#').to_owned());
        match within.filter(|within| schema.pointer(within).is_some_and(has_properties)) {
            Some(within) => {
                let inner = properties(schema, &within).into_iter();
                found.extend(inner.map(|(key, _)| {
                    (format!("{name}.{key}"), format!("{within}/properties/{key}"))
                }));
            }
            None => found.push((name.clone(), format!("/properties/{name}"))),
        }
    }
    found
}

fn has_properties(node: &Value) -> bool {
    node["properties"].is_object()
}

fn properties<'a>(schema: &'a Value, pointer: &str) -> Vec<(String, &'a Value)> {
    let node = schema.pointer(pointer).and_then(|node| node["properties"].as_object());
    node.into_iter().flatten().map(|(name, value)| (name.clone(), value)).collect()
}

/// The command that uses a key, or `None` if several do.
fn only_command(key: &str) -> Result<Option<&'static str>> {
    let mut commands = Vec::new();
    for product in Product::ALL {
        if uses(product, key)? {
            commands.push(product.command());
        }
    }
    Ok(if let [only] = commands[..] { Some(only) } else { None })
}

/// Whether a key has an effect on a product: it is not in the table of another one, and not refused.
fn uses(product: Product, key: &str) -> Result<bool> {
    let is_owner = |owner: &Product| key.starts_with(&format!("{}.", owner.command()));
    if let Some(owner) = Product::ALL.iter().find(|owner| is_owner(owner)) {
        return Ok(*owner == product);
    }
    let command = product.command();
    let with_table = fit::read(&format!("[{command}]\n"), FILE, &[]);
    let mut recipe = with_table.or_else(|_| fit::read("", FILE, &[]))?;
    recipe.overridden = vec![key.to_owned()];
    let refused = fit::resolve(product, &mut recipe).err().map(|error| error.to_string());
    Ok(!refused.is_some_and(|error| {
        error.starts_with(&format!("`{key}` "))
            && error.contains(&format!("`zephyr-fast {command}`"))
    }))
}

/// The constraint on a key, taken from the error that this value causes, if it is rejected.
fn rule_of(key: &str, value: &str) -> Option<String> {
    let overrides = [(key.to_owned(), value.to_owned())];
    let refused = fit::read("", FILE, &overrides).err()?.to_string();
    let (_, rule) = refused.split_once(&format!("`{key}` must be "))?;
    Some(rule.to_owned())
}

#[test]
fn the_committed_schema_is_that_of_the_recipes_types() -> Result<()> {
    let schema = schema()?;
    let of = |pointer: &str| schema.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let within = "/$defs/Pack/properties/seq_len";
    assert_eq!(of(&format!("{within}/x-command")).as_deref(), Some("prep"));
    assert_eq!(of(&format!("{within}/x-rule")).as_deref(), Some("between 8 and 1048576"));
    assert_eq!(filter::schemas().len(), filter::FILTERS.len(), "filter::schemas lacks a filter");
    check_committed(FILE, &schema)
}
