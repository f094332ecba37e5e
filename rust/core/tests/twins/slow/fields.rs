//! Finds the fields that a row would lose, with serde_json only.

use std::collections::HashSet;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// Fields of a row that cause an error if they contain anything. Separators and capitals do not matter.
const OF_ROW: &str = "tools functions available_tools tool_definitions documents tool_calls \
    function_calls image images image_url audio audios input_audio video videos weight loss_weight \
    loss_scale train trained trainable mask masked system system_prompt system_message \
    system_instruction developer chat_template_kwargs";
/// As `OF_ROW`, in a message.
pub const OF_MESSAGE: &str = "tools functions available_tools tool_definitions documents tool_calls \
    function_calls tool_call function_call tool_call_id tool_plan tool_results reasoning_content \
    reasoning_details reasoning thinking_content thinking thoughts thought image images image_url \
    audio audios input_audio video videos weight loss_weight loss_scale train trained trainable \
    training loss mask masked ignore train_detail training_detail name refusal";
/// As `OF_ROW`, in a scored answer.
pub const OF_ANSWER: &str = "tool_calls function_calls tool_call function_call tool_call_id tool_plan \
    tool_results reasoning_content reasoning_details reasoning thinking_content thinking thoughts \
    thought image images image_url audio audios input_audio video videos";
const FLAGS: &str = "weight loss_weight loss_scale train trained trainable training loss";

fn names(list: &str, key: &str) -> bool {
    let plain = |name: &str| name.to_ascii_lowercase().replace(['_', '-'], "");
    list.split_whitespace().any(|name| plain(name) == plain(key))
}

/// An object with all of its entries, including those with a repeated key.
struct Raw<'row>(Vec<(String, &'row RawValue)>);

impl<'de> Deserialize<'de> for Raw<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Raw<'de>;
            fn expecting(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
                formatter.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw<'de>, A::Error> {
                std::iter::from_fn(|| map.next_entry().transpose())
                    .collect::<Result<_, _>>()
                    .map(Raw)
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// A value, if it is of that type.
pub fn raw<'row, T: Deserialize<'row>>(value: &'row RawValue) -> Option<T> {
    serde_json::from_str(value.get()).ok()
}

/// Whether a value is more than null, an empty text, or a container of nothing else.
pub fn says(value: &RawValue) -> bool {
    match raw::<Raw>(value) {
        Some(fields) => fields.0.iter().any(|(_, value)| says(value)),
        None => match raw::<Vec<&RawValue>>(value) {
            Some(values) => values.into_iter().any(says),
            None => !["null", "\"\""].contains(&value.get()),
        },
    }
}

/// Whether any object of a row has a key twice.
pub fn repeats_a_key(row: &[u8]) -> bool {
    fn repeats(value: &RawValue) -> bool {
        if let Some(Raw(fields)) = raw(value) {
            let keys: HashSet<_> = fields.iter().map(|(key, _)| key).collect();
            return keys.len() < fields.len() || fields.iter().any(|(_, value)| repeats(value));
        }
        raw::<Vec<&RawValue>>(value).is_some_and(|values| values.into_iter().any(repeats))
    }
    serde_json::from_slice(row).is_ok_and(repeats)
}

fn is(object: &Raw, key: &str, text: &str) -> bool {
    object
        .0
        .iter()
        .any(|(name, value)| name == key && raw::<String>(value).as_deref() == Some(text))
}

/// The name of the first field that a row would lose.
pub fn lost_field(row: &str, key_lists: &[&str], of_element: &str) -> Option<String> {
    let row: Raw = serde_json::from_str(row).ok()?;
    let mut lists: Vec<(&str, Vec<&RawValue>)> = Vec::new();
    for key in key_lists {
        for (_, value) in row.0.iter().filter(|(name, _)| name == key) {
            lists.extend(raw(value).map(|list| (*key, list)));
        }
    }
    let start = (of_element == OF_MESSAGE)
        .then(|| lists.iter().find_map(|(_, list)| raw::<Raw>(list.first()?)))
        .flatten();
    let is_first_message = |prompt: &RawValue| {
        start.as_ref().is_some_and(|start| {
            is(start, "role", "system")
                && raw::<String>(prompt).is_some_and(|prompt| is(start, "content", &prompt))
        })
    };
    let is_one = |value: &RawValue| value.get() == "true" || value.get().parse() == Ok(1.0);
    for (name, value) in &row.0 {
        let is_fine =
            names("system system_prompt system_message system_instruction developer", name)
                && is_first_message(value)
                || names(FLAGS, name) && is_one(value);
        if names(OF_ROW, name) && says(value) && !is_fine {
            return Some(name.clone());
        }
    }
    for (key, list) in &lists {
        for (index, element) in list.iter().enumerate() {
            let Some(element) = raw::<Raw>(element) else { continue };
            for (name, value) in &element.0 {
                let is_fine =
                    names(FLAGS, name) && is_one(value) && is(&element, "role", "assistant");
                if names(of_element, name) && says(value) && !is_fine {
                    return Some(format!("{key}[{index}].{name}"));
                }
            }
            let is_in_parts = |(name, value): &(String, &RawValue)| {
                name == "content" && value.get().starts_with('[')
            };
            if of_element == OF_MESSAGE && element.0.iter().any(is_in_parts) {
                return Some(format!("{key}[{index}].content"));
            }
        }
    }
    None
}
