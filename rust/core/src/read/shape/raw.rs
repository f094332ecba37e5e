//! Looks into JSON whose values are kept as they are written.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// The members of an object, in their order, each as often as it is written: a repeated key must
/// not hide what the others say.
pub(super) struct Object<'row>(pub(super) Vec<(String, &'row RawValue)>);

impl<'row> Object<'row> {
    pub(super) fn of(json: &'row str) -> Option<Object<'row>> {
        serde_json::from_str(json).ok()
    }

    /// The values of a key.
    pub(super) fn all(&self, key: &str) -> impl Iterator<Item = &'row RawValue> {
        self.0.iter().filter(move |(name, _)| name == key).map(|(_, value)| *value)
    }

    /// Whether a key has that text.
    pub(super) fn has_text(&self, key: &str, wanted: &str) -> bool {
        self.all(key).filter_map(text).any(|text| text == wanted)
    }

    /// The lists of a key.
    pub(super) fn lists(&self, key: &str) -> impl Iterator<Item = Vec<&'row RawValue>> {
        self.all(key).filter_map(list)
    }
}

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Members)
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Object<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Object(members))
    }
}

fn list(json: &RawValue) -> Option<Vec<&RawValue>> {
    serde_json::from_str(json.get()).ok()
}

pub(super) fn text(json: &RawValue) -> Option<String> {
    serde_json::from_str(json.get()).ok()
}

/// Whether a value says nothing: null, an empty text, or a list or object of nothing else.
pub(super) fn is_empty(value: &RawValue) -> bool {
    // What cannot be read, such as a number that is too large, says something.
    serde_json::from_str(value.get()).is_ok_and(|IsEmpty(is_empty)| is_empty)
}

/// Whether a value says nothing, found in one pass however deep it is.
struct IsEmpty(bool);

impl<'de> Deserialize<'de> for IsEmpty {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Emptiness).map(IsEmpty)
    }
}

struct Emptiness;

impl<'de> Visitor<'de> for Emptiness {
    type Value = bool;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<bool, E> {
        Ok(true)
    }

    fn visit_str<E>(self, text: &str) -> Result<bool, E> {
        Ok(text.is_empty())
    }

    fn visit_bool<E>(self, _: bool) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_i64<E>(self, _: i64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_u64<E>(self, _: u64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_f64<E>(self, _: f64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<bool, A::Error> {
        while let Some(IsEmpty(is_empty)) = list.next_element()? {
            if !is_empty {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<bool, A::Error> {
        while let Some((_, IsEmpty(is_empty))) = object.next_entry::<IgnoredAny, _>()? {
            if !is_empty {
                while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                return Ok(false);
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_key_keeps_all_of_its_values() {
        let object = Object::of(r#"{"a": 1, "b": [], "\u0061": null}"#).expect("an object");
        let values: Vec<_> = object.all("a").map(RawValue::get).collect();
        assert_eq!(values, ["1", "null"]);
    }

    #[test]
    fn empty_is_what_says_nothing_however_deep() {
        let empty = |json: &str| is_empty(&RawValue::from_string(json.to_owned()).expect("JSON"));
        for json in ["null", r#""""#, "[]", "{}", "[ null ]", r#"{"a": null, "b": [{"c": ""}]}"#] {
            assert!(empty(json), "{json}");
        }
        for json in ["0", "false", r#"" ""#, "[0]", r#"{"a": false}"#, r#""[]""#] {
            assert!(!empty(json), "{json}");
        }
    }
}
