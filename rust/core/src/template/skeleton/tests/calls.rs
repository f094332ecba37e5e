//! Dialogues with calls are rendered as Jinja renders them, whatever a template does with them.

use serde_json::{Value, json};

use super::{is_filled, template};
use crate::dialogue::{CALLS, Content, Extras, Role, Script, TemplateInputs, Turn};
use crate::recipe::TrainEnd;
use crate::template::Template;
use crate::template::skeleton::kept::TIMES_FIRST;

/// Ways to write a call `c` that need no Jinja.
const WRITE: [&str; 14] = [
    "{{ c.function.name }}({{ c.function.arguments|tojson }})",
    "{{ c|tojson }}",
    "{{ c.function|tojson }}{{ c.id }}",
    "{{ c.function.name }}{% for k, v in c.function.arguments.items() %} {{ k }}=\
        {{ v|tojson }}{% endfor %}",
    "{{ c.function.name }}{% for k in c.function.arguments %} {{ k }}=\
        {{ c.function.arguments[k]|tojson }}{% endfor %}",
    "{{ c.function.name + ':' + (c.function.arguments|tojson) }}",
    "{{ c.function.name|trim }}{{ c.function.arguments|tojson }}",
    "{{ c.function.name ~ ':' ~ (c.function.arguments|tojson) }}",
    "{% set f = c.function if c.function else c %}{{ f.name }}{{ f.arguments|tojson }}",
    "{{ c.function.name }}{{ c.function.arguments|tojson if c.function.arguments is mapping }}",
    "{{ c.function.name }}{{ c.function.arguments|tojson }}{{ 'B' if c.function.name == 'b' }}",
    "{% if c.type == 'function' %}{{ c.function.name }}{{ c.function.arguments|tojson }}{% endif %}",
    // The text after the last part of a message is not that of its argument.
    "{{ c.function.arguments|tojson }}{{ c.function.name }}",
    "{{ 'B' if 'b' in m.content }}{{ c.function.name }}{{ c.function.arguments|tojson }}",
];
/// Expressions that look into a call.
const LOOK: [&str; 16] = [
    // It comes twice in the text.
    "{{ c.function.name }}",
    "{{ 'Y' if 'aa' in c.function.name ~ c.id }}",
    "{{ 'Y' if c.function.name|length == 1 }}",
    "{{ 'Y' if c.function.name == m.role }}",
    "{{ 'Y' if (c.function.arguments|tojson)|length < 30 }}",
    "{{ 'Y' if '\"b\"' in c.function.arguments|tojson }}",
    "{{ 'Y' if c.function.arguments|string|length < 30 }}",
    "{{ 'Y' if c.function.arguments.at|upper == 'B' }}",
    "{{ 'Y' if c.function.arguments.at[0] == 'b' }}",
    "{{ 'Y' if c.id[:1] == 'b' }}",
    "{{ 'Y' if c.id|length == 9 }}",
    "{{ 'Y' if c.function.name in m.content }}",
    "{{ 'Y' if c.function.name in (tools|tojson) }}",
    "{{ 'Y' if c.function.arguments.values()|list == ['b', 2, [null, 'b'], {}] }}",
    "{{ 'Y' if {'b': 1}.get(c.function.name, 2) == 1 }}",
    "{{ 'Y' if c == messages[1].tool_calls[0] }}",
];
const TEXTS: [&str; 14] = [
    "a",
    "b",
    "",
    " ",
    "aa",
    " a",
    "a\n",
    "\"a\"",
    "a\\",
    "\u{e9}\u{1F600}",
    "</think>a",
    "\u{FDD1}a",
    "<e>",
    "\u{F0000}",
];

fn writing(call: &str) -> Template {
    let text = format!(
        "{{{{ tools|tojson if tools }}}}{{% for m in messages %}}<{{{{ m.role }}}}>\
        {{{{ m.content }}}}{{% for c in m.tool_calls or [] %}}[{call}]{{% endfor %}}<e>{{% endfor %}}\
        {{% if add_generation_prompt %}}<assistant>{{% endif %}}"
    );
    template(&text, TrainEnd::AsIs).expect("loads")
}

/// A dialogue with a call, with these texts in its slots.
fn dialogue([content, name, argument, id, result]: [&str; 5]) -> Vec<Turn> {
    let arguments = json!({"at": argument, "n": 2, "l": [null, argument], "m": {}});
    let call = json!({"id": id, "type": "function",
        "function": {"name": name, "arguments": arguments}});
    let extras = |name: &str, value: Value| {
        let members = [(name.to_owned(), value)].into_iter().collect();
        Some(Box::new(Extras { members, ..Extras::default() }))
    };
    let calls = extras(CALLS, json!([call, {"type": "function", "function": call["function"]}]));
    vec![
        Turn::new(Role::User, "Where?"),
        Turn { extras: calls, ..Turn::new(Role::Assistant, content) },
        Turn { extras: extras("tool_call_id", id.into()), ..Turn::new(Role::Tool, result) },
        Turn::new(Role::Assistant, "There."),
    ]
}

/// Dialogues in which one text or all differ from the usual.
fn dialogues(with_blank: bool) -> impl Iterator<Item = Vec<Turn>> {
    let usual = ["Let me see.", "look", "here", "call_0", "found"];
    let texts = TEXTS.into_iter().filter(move |text| with_blank || !text.trim().is_empty());
    texts.flat_map(move |text| {
        (0..6).map(move |other| {
            let is_other = |slot| slot == other || other == 5;
            dialogue(std::array::from_fn(|slot| if is_other(slot) { text } else { usual[slot] }))
        })
    })
}

/// Renders dialogues so often that their sequences are kept. Returns how often Jinja was not needed
/// in the end, of so many.
fn filled(
    template: &Template,
    inputs: Option<&TemplateInputs>,
    with_blank: bool,
) -> (usize, usize) {
    let (mut filled, mut all) = (0, 0);
    for round in 0..=TIMES_FIRST {
        for turns in dialogues(with_blank) {
            let is_filled = is_filled(template, Script { turns: &turns, inputs });
            if round == TIMES_FIRST {
                all += 1;
                filled += usize::from(is_filled);
            }
        }
    }
    (filled, all)
}

#[test]
fn templates_that_write_calls_need_jinja_for_odd_dialogues_only() {
    let inputs = TemplateInputs { tools: Some(json!([{"name": "look"}])), ..Default::default() };
    for call in WRITE {
        let template = writing(call);
        for inputs in [None, Some(&inputs)] {
            let (filled, all) = filled(&template, inputs, true);
            assert!(filled > all / 4 && filled < all, "{call}: {filled} of {all}");
        }
    }
}

#[test]
fn only_what_is_written_as_json_must_need_no_escapes_unless_it_is_sealed() {
    let usual = ["Let me see.", "look", "here", "call_0", "found"];
    for (call, is_sealed) in [(WRITE[0], true), (WRITE[3], false)] {
        let template = writing(call);
        for _ in 0..=TIMES_FIRST {
            is_filled(&template, &dialogue(usual));
        }
        for slot in 0..usual.len() {
            let mut texts = usual;
            texts[slot] = "a\"\nb\\";
            assert_eq!(is_filled(&template, &dialogue(texts)), is_sealed || slot != 2, "{slot}");
        }
    }
}

#[test]
fn templates_that_look_into_calls_are_rendered_with_jinja() {
    for look in LOOK {
        let template = writing(&format!("{}{look}", WRITE[1]));
        assert_eq!(filled(&template, None, false).0, 0, "{look}");
    }
}

#[test]
fn calls_that_a_template_leaves_out_are_refused_however_often_they_come() {
    for call in ["", "{{ c.function.name }}", "{{ c.function.arguments|tojson if loop.first }}"] {
        let template = writing(call);
        assert_eq!(filled(&template, None, false).0, 0, "{call}");
    }
}

#[test]
fn what_is_no_text_belongs_to_the_sequence() {
    let template = writing(WRITE[0]);
    let of = |change: &dyn Fn(&mut Vec<Turn>)| {
        let mut turns = dialogue(["a", "look", "here", "call_0", "found"]);
        change(&mut turns);
        turns
    };
    let call = |turns: &mut Vec<Turn>, pointer: &str, value: Value| {
        let extras = turns[1].extras.as_mut().expect("has a call");
        *extras.members[CALLS].pointer_mut(pointer).expect("has it") = value;
    };
    let content = |turns: &mut Vec<Turn>, content| {
        turns[1].extras.as_mut().expect("has a call").content = content;
    };
    let all: [Vec<Turn>; 11] = [
        of(&|_| ()),
        of(&|turns| call(turns, "/0/function/arguments/n", 3.into())),
        of(&|turns| call(turns, "/0/function/arguments/n", "2".into())),
        of(&|turns| call(turns, "/0/function/arguments/l", json!([]))),
        of(&|turns| call(turns, "/0/function/arguments", json!({"n": 2, "at": "here"}))),
        of(&|turns| call(turns, "/0/type", "tool".into())),
        of(&|turns| content(turns, Content::Part)),
        of(&|turns| content(turns, Content::Null)),
        of(&|turns| turns[1].extras.as_mut().expect("has a call").trained = Some(false)),
        of(&|turns| turns[2].role = Role::Developer),
        of(&|turns| drop(turns.pop())),
    ];
    for _ in 0..=TIMES_FIRST {
        for turns in &all {
            is_filled(&template, turns);
        }
    }
    assert!(is_filled(&template, &all[0]) && is_filled(&template, &all[1]));
}

#[test]
fn an_answer_that_comes_first_and_too_many_slots_need_jinja() {
    let template = writing(WRITE[3]);
    let turns = dialogue(["a", "look", "here", "call_0", "found"]);
    let arguments: Value = (0..300).map(|at| (at.to_string(), Value::from("a"))).collect();
    let many = json!([{"function": {"name": "look", "arguments": arguments}}]);
    let extras =
        Extras { members: [(CALLS.to_owned(), many)].into_iter().collect(), ..Extras::default() };
    let long = Turn { extras: Some(Box::new(extras)), ..Turn::new(Role::Assistant, "a") };
    for turns in [&turns[1..], &[turns[0].clone(), long]] {
        for _ in 0..=TIMES_FIRST {
            assert!(!is_filled(&template, turns));
        }
    }
}

#[test]
fn rows_with_more_work_than_the_limit_are_refused_however_often_they_come() {
    let template = writing(WRITE[0]);
    let calls = json!({"function": {"name": "look", "arguments": {"at": "here"}}});
    let members = [(CALLS.to_owned(), vec![calls; 20].into())].into_iter().collect();
    let extras = Some(Box::new(Extras { members, ..Extras::default() }));
    let turns = |bytes: usize| {
        let answer = Turn { extras: extras.clone(), ..Turn::new(Role::Assistant, "a") };
        [Turn::new(Role::User, "a".repeat(bytes)), answer]
    };
    let small = turns(9);
    for _ in 0..=TIMES_FIRST {
        is_filled(&template, &small);
    }
    assert!(is_filled(&template, &small));
    let large = turns(6 << 20);
    assert!(template.render(&large).is_err() && !is_filled(&template, &large));
}
