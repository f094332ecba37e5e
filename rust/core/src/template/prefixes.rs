//! The texts of the first messages of a dialogue. Each is rendered once, however often it is needed.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use minijinja::Value;

use super::jinja::Jinja;
use super::marks;
use crate::dialogue::Script;

/// A text, unless the template refuses the messages.
type Text = Option<Rc<str>>;

/// The texts of the first messages, by their number, with the generation prompt or without.
pub(super) struct Prefixes<'row> {
    jinja: &'row Jinja,
    script: Script<'row>,
    messages: Vec<Value>,
    known: RefCell<HashMap<(usize, bool), Text>>,
}

impl<'row> Prefixes<'row> {
    pub(super) fn new(jinja: &'row Jinja, script: Script<'row>) -> Prefixes<'row> {
        let messages = marks::messages(script, None);
        Prefixes { jinja, script, messages, known: RefCell::default() }
    }

    /// The text of the messages before `end`.
    pub(super) fn text(&self, end: usize, prompt: bool) -> Text {
        let render = || {
            let messages = self.messages[..end].to_vec();
            let text = self.jinja.text_of(self.script.until(end), messages, prompt, None);
            text.ok().map(Rc::from)
        };
        self.known.borrow_mut().entry((end, prompt)).or_insert_with(render).clone()
    }
}
