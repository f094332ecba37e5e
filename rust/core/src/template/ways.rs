//! The ways to mark a dialogue, of which the first that succeeds is used.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::jinja::Jinja;
use super::marks::{Calls, Contents, Thinking, can_split, has_parts};
use crate::dialogue::Script;

/// The ways to mark a dialogue, in the order in which they are tried.
pub(super) fn ways<'row>(
    jinja: &Jinja,
    script: Script<'row>,
) -> impl Iterator<Item = Option<Contents>> + use<'row> {
    let calls: &[Calls] = if script.turns.iter().any(has_parts) {
        &[Calls::NamesAndArguments, Calls::Names, Calls::Nothing]
    } else {
        &[Calls::Nothing]
    };
    let thinking: &[Thinking] = if script.turns.iter().any(can_split) {
        &[Thinking::Whole, Thinking::Apart, Thinking::InParts]
    } else {
        &[Thinking::Whole]
    };
    let strips: &[[bool; 2]] = if jinja.has_tags {
        &[[true, true]]
    } else {
        &[[false, false], [true, false], [false, true], [true, true]]
    };
    let contents = thinking.iter().flat_map(move |thinking| {
        calls.iter().flat_map(move |calls| {
            strips.iter().flat_map(move |strips| {
                [false, true].map(|answers_only| {
                    let (strips, thinking, calls) = (*strips, *thinking, *calls);
                    Some(Contents { answers_only, strips, thinking, calls })
                })
            })
        })
    });
    contents.chain(jinja.has_tags.then_some(None))
}

/// The number of the way to mark a dialogue in which the names of tools are marked as well: the one
/// that succeeded last. It saves renderings, and changes no result.
#[derive(Debug, Default)]
pub(super) struct ToolMarks(AtomicUsize);

impl ToolMarks {
    /// Greater than the number of each way.
    const NEVER: usize = usize::MAX;

    pub(super) fn are_in(&self, way: usize) -> bool {
        self.0.load(Ordering::Relaxed) == way
    }

    /// Records that a way succeeds, but not with the names of tools if it was tried.
    pub(super) fn succeeded_without(&self, way: usize) {
        let next = if self.are_in(way) { Self::NEVER } else { way };
        if !self.are_in(Self::NEVER) {
            self.0.store(next, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::dialogue::{Role, TemplateInputs, Turn};
    use crate::recipe::TrainEnd;
    use crate::template::{SpecialTokens, TemplateSource, mask};

    /// The tools that marks find in a dialogue, which is rendered a few times.
    fn located(header: &str, content: &str) -> Vec<Vec<usize>> {
        let text = format!(
            "{header}{{% for m in messages %}}<{{{{ m.role }}}}>{{{{ {content} }}}}<e>{{% endfor %}}"
        );
        let special = SpecialTokens::default();
        let plain = TemplateSource::plain("t", &text, &special, &["<e>".to_owned()]);
        let source = TemplateSource { train_end: TrainEnd::AsIs, ..plain };
        let jinja = Jinja::new(&source).expect("compiles");
        let tools = json!([{"name": "f"}, {"type": "function", "function": {"name": "g"}}]);
        let inputs = TemplateInputs { tools: Some(tools), ..TemplateInputs::default() };
        let turns = [Turn::new(Role::User, " q "), Turn::new(Role::Assistant, " a ")];
        let script = Script { turns: &turns, inputs: Some(&inputs) };
        let text = jinja.render_text(script).expect("renders");
        let tools = || mask::derive(&jinja, script, &text).expect("is proven").tools;
        (0..3).map(|_| tools()).collect()
    }

    #[test]
    fn tools_that_cannot_be_marked_are_tried_once() {
        let marks = ToolMarks::default();
        assert!(marks.are_in(0));
        marks.succeeded_without(3);
        assert!(marks.are_in(3) && !marks.are_in(0));
        for way in [3, 1, 1] {
            marks.succeeded_without(way);
            assert!(!(0..9).any(|way| marks.are_in(way)));
        }
    }

    #[test]
    fn tools_are_located_by_their_names_in_the_way_that_succeeds() {
        let all = [vec![0, 1], vec![0, 1], vec![0, 1]];
        assert_eq!(located("{{ tools|tojson }}", "m.content"), all);
        // The contents are marked in another way, which is known after the first dialogue.
        let later = [vec![], vec![0, 1], vec![0, 1]];
        assert_eq!(located("{{ tools|tojson }}", "m.content|trim"), later);
        let second = [vec![1], vec![1], vec![1]];
        assert_eq!(located("{{ tools[1].function.name if tools }}", "m.content"), second);
        assert_eq!(located("", "m.content"), [[0; 0], [0; 0], [0; 0]]);
        // Names that are compared are not marked.
        let compared = "{{ 'F' if tools and tools[0].name == 'f' }}{{ tools|tojson }}";
        assert_eq!(located(compared, "m.content"), [[0; 0], [0; 0], [0; 0]]);
    }
}
