//! Finds the fields that a row would lose, with serde_json only.

use std::collections::HashSet;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;
use zephyr_core::dialogue::Extras;

/// Fields of a row that cause an error if they contain anything. Separators and capitals do not matter.
const OF_ROW: &str = "tools functions available_tools tool_definitions documents tool_calls \
    function_calls image images image_url audio audios input_audio video videos attachment attachments weight loss_weight \
    loss_scale train trained trainable mask masked system system_prompt system_message \
    system_instruction developer chat_template_kwargs";
/// Members of messages that the template may read, by these exact names.
const TEXTS: &str = "reasoning_content reasoning thinking thought tool_plan tool_call_id name";
/// As `OF_ROW`, in a message.
pub const OF_MESSAGE: &str = "tools functions available_tools tool_definitions documents tool_calls \
    function_calls tool_call function_call tool_call_id tool_plan tool_results reasoning_content \
    reasoning_details reasoning thinking_content thinking thoughts thought image images image_url \
    audio audios input_audio video videos attachment attachments weight loss_weight loss_scale train trained trainable \
    training loss mask masked ignore train_detail training_detail name refusal";
/// As `OF_ROW`, in a scored answer.
pub const OF_ANSWER: &str = "tool_calls function_calls tool_call function_call tool_call_id tool_plan \
    tool_results reasoning_content reasoning_details reasoning thinking_content thinking thoughts \
    thought image images image_url audio audios input_audio video videos attachment attachments";
const FLAGS: &str = "weight loss_weight loss_scale train trained trainable training loss";

/// Words that decide as the last one of a name of several. In a message, the first one counts too.
const MEDIA: &str = "image images audio audios video videos attachment attachments";
const WEIGHTS: &str = "weight weights";
const MASKS: &str = "mask masks masked";
const TRAINED: &str = "train trained training trainable loss";

fn names(list: &str, key: &str) -> bool {
    let plain = |name: &str| name.to_ascii_lowercase().replace(['_', '-'], "");
    list.split_whitespace().any(|name| plain(name) == plain(key))
}

/// Whether a field decides, by its name or by a word of it, and its value says something.
fn decides(list: &str, key: &str, value: &RawValue, is_trained: bool) -> bool {
    says(value)
        && (names(list, key)
            || word_group(list, key).is_some_and(|group| {
                let is_zero = matches!(value.get(), "0" | "false");
                let is_flag = [WEIGHTS, TRAINED].contains(&group);
                !(group == MEDIA && is_zero || is_flag && is_trained && is_one(value))
            }))
}

fn is_one(value: &RawValue) -> bool {
    value.get() == "true" || value.get().parse() == Ok(1.0)
}

/// The words above of which a name has one in its place, for one of the lists above.
fn word_group(list: &str, key: &str) -> Option<&'static str> {
    let mut spaced = String::new();
    let mut before = ' ';
    for letter in key.trim_matches(['_', '-']).chars() {
        if before.is_ascii_lowercase() && letter.is_ascii_uppercase() {
            spaced.push(' ');
        }
        spaced.push(if matches!(letter, '_' | '-') { ' ' } else { letter.to_ascii_lowercase() });
        before = letter;
    }
    let words: Vec<&str> = spaced.split(' ').filter(|word| !word.is_empty()).collect();
    let [first, .., last] = words[..] else { return None };
    if key.trim_matches(['_', '-']).len() > 64 || list == OF_ROW && names("attention_mask", key) {
        return None;
    }
    let groups: &[&'static str] = match list {
        OF_ANSWER => &[MEDIA],
        OF_ROW => &[WEIGHTS, MASKS, MEDIA],
        _ => &[TRAINED, WEIGHTS, MASKS, MEDIA],
    };
    let has = |list: &str, word: &str| list.split(' ').any(|known| known == word);
    let is_in_place =
        |group: &&&'static str| has(group, last) || list == OF_MESSAGE && has(group, first);
    groups.iter().find(is_in_place).copied()
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

/// A row with 0 in place of each number that no float can hold.
pub fn with_numbers_in_range(row: &[u8]) -> Vec<u8> {
    let (mut changed, mut number) = (Vec::new(), String::new());
    let (mut in_text, mut escaped) = (false, false);
    for byte in row.iter().copied().chain([b'\n']) {
        if !in_text && (byte.is_ascii_digit() || b"+-.eE".contains(&byte)) {
            number.push(char::from(byte));
            continue;
        }
        let is_huge = number.parse::<f64>().is_ok_and(f64::is_infinite);
        changed.extend(if is_huge { b"0" } else { number.as_bytes() });
        number.clear();
        changed.push(byte);
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            _ => {}
        }
    }
    changed.pop();
    changed
}

fn is(object: &Raw, key: &str, text: &str) -> bool {
    object
        .0
        .iter()
        .any(|(name, value)| name == key && raw::<String>(value).as_deref() == Some(text))
}

/// The name of the first field that a row would lose.
pub fn lost_field(
    row: &str,
    key_lists: &[&str],
    of_element: &str,
    has_inputs: bool,
) -> Option<String> {
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
    for (name, value) in &row.0 {
        if has_inputs && ["tools", "chat_template_kwargs"].contains(&name.as_str()) {
            if input(name, value).is_none() {
                return Some(name.clone());
            }
            continue;
        }
        let is_fine =
            names("system system_prompt system_message system_instruction developer", name)
                && is_first_message(value)
                || names(FLAGS, name) && is_one(value);
        if decides(OF_ROW, name, value, true) && !is_fine {
            return Some(name.clone());
        }
    }
    for (key, list) in &lists {
        for (index, element) in list.iter().enumerate() {
            let Some(element) = raw::<Raw>(element) else { continue };
            let mut extras = Extras::default();
            for (name, value) in &element.0 {
                let is_read = of_element == OF_MESSAGE && is_read(name);
                if is_read && !add(&mut extras, name, value)
                    || !is_read
                        && decides(of_element, name, value, is(&element, "role", "assistant"))
                {
                    return Some(format!("{key}[{index}].{name}"));
                }
            }
            if of_element == OF_MESSAGE
                && let Some(name) = misplaced(&element, &extras)
            {
                return Some(format!("{key}[{index}].{name}"));
            }
            let is_in_parts = |(name, value): &(String, &RawValue)| {
                name == "content" && value.get().starts_with('[') && part(value).is_none()
            };
            if of_element == OF_MESSAGE && element.0.iter().any(is_in_parts) {
                return Some(format!("{key}[{index}].content"));
            }
        }
    }
    None
}

/// Whether a member of a message is read.
pub fn is_read(name: &str) -> bool {
    name == "tool_calls" || TEXTS.split_whitespace().any(|text| text == name) || names(FLAGS, name)
}

/// Adds a member that is read; false if its value cannot be used.
pub fn add(extras: &mut Extras, name: &str, value: &RawValue) -> bool {
    let is_text = TEXTS.split_whitespace().any(|text| text == name);
    if extras.members.contains_key(name) {
        return false;
    }
    if !(says(value) || is_text && value.get() == r#""""#) {
        return true;
    }
    if names(FLAGS, name) {
        let flag = match value.get() {
            "true" => true,
            "false" => false,
            number => match number.parse::<f64>() {
                Ok(number) if number == 0.0 || number == 1.0 => number == 1.0,
                _ => return false,
            },
        };
        let before = extras.trained.replace(flag);
        return before.is_none_or(|before| before == flag);
    }
    let Some(value) = exact(value.get()) else { return false };
    let is_fine = match &value {
        Value::String(_) => is_text,
        Value::Array(calls) => !is_text && calls.iter().all(Value::is_object),
        _ => false,
    };
    extras.members.insert(name.to_owned(), value);
    is_fine
}

/// A value whose numbers Python reads in the same way.
fn exact(json: &str) -> Option<Value> {
    let (mut in_text, mut escaped, mut number) = (false, false, String::new());
    for letter in json.chars().chain([' ']) {
        if !in_text && (letter.is_ascii_digit() || "+-.eE".contains(letter)) {
            number.push(letter);
            continue;
        }
        let is_whole = number.contains(|letter: char| letter.is_ascii_digit())
            && !number.contains(['.', 'e', 'E']);
        if is_whole && (number == "-0" || number.len() > 18) {
            return None;
        }
        number.clear();
        match letter {
            _ if escaped => escaped = false,
            '\\' if in_text => escaped = true,
            '"' => in_text = !in_text,
            _ => {}
        }
    }
    serde_json::from_str(json).ok()
}

/// A column that is passed to the template: its value, if it has one; `None` if it is refused.
pub fn input(name: &str, value: &RawValue) -> Option<Option<Value>> {
    if value.get() != "[]" && !says(value) {
        return Some(None);
    }
    let value = match exact(value.get())? {
        Value::String(text) if text.trim().is_empty() => return Some(None),
        Value::String(text) => exact(&text)?,
        value => value,
    };
    let taken = "messages conversation chat_template tools documents add_generation_prompt \
        continue_final_message tokenize padding truncation max_length return_tensors return_dict \
        return_assistant_tokens_mask tokenizer_kwargs self bos_token eos_token pad_token unk_token \
        sep_token cls_token";
    let is_fine = match &value {
        Value::Null => return Some(None),
        Value::Array(tools) if name == "tools" => tools.iter().all(Value::is_object),
        Value::Array(none) if none.is_empty() => return Some(None),
        Value::Object(args) if name != "tools" => !args.keys().any(|name| {
            taken.split_whitespace().any(|taken| taken == name) || name.starts_with("__")
        }),
        _ => false,
    };
    is_fine.then_some(Some(value))
}

/// The member that a message of its role cannot have.
fn misplaced(message: &Raw, extras: &Extras) -> Option<String> {
    let role =
        message.0.iter().find(|(name, value)| name == "role" && raw::<String>(value).is_some());
    let role = role.and_then(|(_, value)| raw::<String>(value)).unwrap_or_default();
    let speaks = ["system", "developer", "user", "assistant"].contains(&role.as_str());
    if extras.members.get("tool_call_id").is_some_and(|id| id != "") && speaks {
        return Some("tool_call_id".to_owned());
    }
    if role == "assistant" {
        return None;
    }
    if extras.members.contains_key("tool_calls") {
        return Some("tool_calls".to_owned());
    }
    let flag = message.0.iter().find(|(name, value)| {
        names(FLAGS, name) && (value.get() == "true" || value.get().parse() == Ok(1.0))
    });
    flag.filter(|_| extras.trained == Some(true)).map(|(name, _)| name.clone())
}

/// The text of a content that is a list of one part, a text.
pub fn part(content: &RawValue) -> Option<String> {
    let parts: Vec<&RawValue> = raw(content)?;
    let [part] = parts[..] else { return None };
    let Raw(members) = raw(part)?;
    let all = |name: &'static str| members.iter().filter(move |(key, _)| key == name);
    let is_known = |(name, value): &(String, &RawValue)| {
        ["type", "text"].contains(&name.as_str()) || value.get() == "null"
    };
    if !members.iter().all(is_known) || all("type").count() != 1 || all("text").count() != 1 {
        return None;
    }
    let text = |name: &'static str| all(name).next().and_then(|(_, value)| raw::<String>(value));
    text("text").filter(|_| text("type").as_deref() == Some("text"))
}

/// The key of the flag by which the last message of a list is not trained.
pub fn flag_of_last(row: &str, list: &str) -> Option<String> {
    let row: Raw = serde_json::from_str(row).ok()?;
    let (_, messages) = row.0.iter().find(|(name, _)| name == list)?;
    let Raw(members) = raw(raw::<Vec<&RawValue>>(messages)?.last()?)?;
    let is_no = |value: &RawValue| value.get() == "false" || value.get().parse() == Ok(0.0);
    members.into_iter().find(|(name, value)| names(FLAGS, name) && is_no(value)).map(|(key, _)| key)
}
