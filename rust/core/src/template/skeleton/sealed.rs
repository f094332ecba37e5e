//! Sealed values: tools and the arguments of calls, as long as a template only writes them as JSON.
//!
//! Nearly every row of some datasets has other tools. If a template looks into none of their
//! members, a tool is a slot as a whole, and so are the arguments of a call. In a watched rendering,
//! each is replaced by an object with one member, which notices if it is read.
//!
//! An example (`the_example_at_the_head_is_sealed`): `X` is the placeholder of the slot.
//!
//! ```text
//! tool      {"name": "look", "parameters": {}}
//! stand-in  {"X": "a"}
//! template  {{ tool|tojson }}     is written, so another tool goes there as it is written as JSON
//!           {{ tool.name }}       is read
//! ```

use std::sync::Arc;

use minijinja::Error;
use minijinja::value::{Enumerator, Object, Value};
use serde_json::{Map, Value as Json};

use super::slots::{is_placeholder, number};
use super::watched;
use crate::template::json;
use crate::template::tojson::Format;

/// Which values are sealed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Seals {
    pub(super) tools: bool,
    pub(super) arguments: bool,
}

/// The object for a sealed value. Its text is marked where those of arguments are.
pub(super) fn stand_in(placeholder: String) -> Json {
    Json::Object([(placeholder, "a".into())].into_iter().collect())
}

/// Whether a name is that of a stand-in's member.
pub(super) fn is_of_stand_in(name: &str) -> bool {
    let mut letters = name.chars();
    letters.next().is_some_and(is_placeholder) && letters.next().is_none()
}

/// The number of the slot that an object stands for.
fn stands_for(members: &Map<String, Json>) -> Option<usize> {
    let name = members.keys().next().filter(|name| members.len() == 1 && is_of_stand_in(name))?;
    name.chars().next().and_then(number)
}

/// Converts a value as [`json::value`] does, but seals each stand-in.
pub(in crate::template) fn value(json: &Json, marks: [char; 2]) -> Value {
    match json {
        Json::Array(items) => items.iter().map(|item| value(item, marks)).collect(),
        Json::Object(members) => match stands_for(members) {
            Some(slot) => Value::from_object(Sealed { slot, marks, stand_in: json::value(json) }),
            None => Value::from_pairs(
                members.iter().map(|(name, member)| (name.as_str(), value(member, marks))),
            ),
        },
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => json::value(json),
    }
}

/// A sealed value in a watched rendering.
#[derive(Debug)]
pub(in crate::template) struct Sealed {
    slot: usize,
    /// What is written around its JSON.
    pub(in crate::template) marks: [char; 2],
    pub(in crate::template) stand_in: Value,
}

impl Sealed {
    /// Records that the value is written as JSON. Fails if it was written in another way before.
    pub(in crate::template) fn written(&self, format: &Format, depth: usize) -> Result<(), Error> {
        watched::written(self.slot, format, depth)
    }
}

/// Everything but its type and that it is not empty is read.
impl Object for Sealed {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        watched::read();
        self.stand_in.get_item(key).ok().filter(|value| !value.is_undefined())
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        watched::read();
        Enumerator::Values(self.stand_in.try_iter().into_iter().flatten().collect())
    }

    fn is_true(self: &Arc<Self>) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use minijinja::{Environment, context};

    use super::*;
    use crate::template::skeleton::slots::FIRST;
    use crate::template::skeleton::watched::recorded;
    use crate::template::tojson::tojson;

    #[test]
    fn the_example_at_the_head_is_sealed() {
        let mut environment = Environment::new();
        environment.add_filter("tojson", tojson);
        let rendered = |text: &str| {
            let tool = value(&stand_in(FIRST.to_string()), ['<', '>']);
            let (text, asked) =
                recorded(|| environment.render_str(text, context! { tool }).expect("renders"));
            (text, asked.is_read, asked.written.len())
        };
        let json = format!("<{{\"{FIRST}\": \"a\"}}>");
        assert_eq!(rendered("{{ tool|tojson }}"), (json.clone(), false, 1));
        assert_eq!(rendered("{{ [tool]|tojson if tool }}"), (format!("[{json}]"), false, 1));
        assert_eq!(rendered("{{ 'yes' if tool is mapping }}"), ("yes".to_owned(), false, 0));
        for reads in [
            "{{ tool.name }}",
            "{{ tool['name'] }}",
            "{{ tool }}",
            "{{ tool ~ '' }}",
            "{{ tool|length }}",
            "{{ tool|list }}",
            "{{ tool|items }}",
            "{{ tool == {} }}",
            "{{ {} == tool }}",
            "{{ tool < {} }}",
            "{{ 'name' in tool }}",
            "{% for name in tool %}{% endfor %}",
            "{{ tool|string }}",
            "{{ {'a': tool} == {'a': {}} }}",
            "{{ [tool]|unique|list }}",
        ] {
            assert!(rendered(reads).1, "{reads}");
        }
    }
}
