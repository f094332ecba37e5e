//! Tools and arguments that are other ones in each row, with a template that only writes them as JSON.

use serde_json::{Value, json};

use super::{is_filled, template};
use crate::dialogue::{CALLS, Extras, Role, Script, TemplateInputs, Turn};
use crate::recipe::TrainEnd;
use crate::template::Template;
use crate::template::skeleton::kept::TIMES_FIRST;

/// Ways to write tools, and ways to write a call `c`.
const TOOLS: [&str; 5] = [
    "{{ tools|tojson if tools }}",
    "{% for t in tools or [] %}[{{ t|tojson }}]{% endfor %}",
    "{% for t in tools or [] %}{{ t|tojson(indent=4) if t is mapping else t }}{% endfor %}",
    "{% if tools %}{{ tools|tojson(sort_keys=true, separators=('; ', '=')) }}{% endif %}",
    "{% if tools %}{{ tools|tojson(indent='\t')|trim }}{% endif %}",
];
const CALL: [&str; 5] = [
    "{{ c.function.name }}{{ c.function.arguments|tojson }}",
    "{% set f = c.function if c.function else c %}{{ f.name }}: {{ f.arguments if f.arguments is \
        string else f.arguments|tojson }}",
    "{{ c.function|tojson }}",
    "{{ c|tojson(indent=2) }}",
    "{{ c.function.arguments|tojson(sort_keys=true) ~ ' by ' ~ c.function.name }}",
];
/// Questions about tools and arguments.
const READ: [(&str, &str); 16] = [
    ("{{ 'Y' if tools and '\"a\"' in tools|tojson }}", ""),
    ("{{ 'Y' if tools and (tools[0]|tojson).endswith('\"a\"}') }}", ""),
    ("", "{{ 'Y' if ': \"a\"' in c.function.arguments|tojson }}"),
    ("", "{{ 'Y' if 'a' in c.function.arguments|tojson }}"),
    ("{{ 'Y' if tools and tools[0].name == 'b' }}", ""),
    ("{{ 'Y' if tools and tools[0].name is defined }}", ""),
    ("{{ 'Y' if tools and tools[0]|length > 2 }}", ""),
    ("{{ 'Y' if tools and 'b' in tools[0] }}", ""),
    ("{{ 'Y' if tools and (tools|tojson)|length > 30 }}", ""),
    ("{{ 'Y' if tools and tools[0] == tools[-1] }}", ""),
    ("{{ tools|tojson(indent=2) if tools }}", ""),
    ("", "{{ 'Y' if c.function.arguments.b }}"),
    ("", "{% for k in c.function.arguments %}{{ 'Y' if k == 'b' }}{% endfor %}"),
    ("", "{{ 'Y' if '\"b\"' in c.function.arguments|tojson }}"),
    ("", "{{ c.function.arguments|tojson if loop.last and m.content != 'a' }}"),
    ("", "{{ 'Y' if c.function.arguments|string|length > 20 }}"),
];

fn writing(tools: &str, call: &str) -> Template {
    let text = format!(
        "{tools}{{% for m in messages %}}<{{{{ m.role }}}}>{{{{ m.content }}}}\
        {{% for c in m.tool_calls or [] %}}[{call}]{{% endfor %}}<e>{{% endfor %}}\
        {{% if add_generation_prompt %}}<assistant>{{% endif %}}"
    );
    template(&text, TrainEnd::AsIs).expect("loads")
}

/// Values of which each row has another one.
fn values() -> Vec<Value> {
    let nested = |depth: usize| (0..depth).fold(json!({"b": "c"}), |value, _| json!({"b": value}));
    let mut values: Vec<Value> = (0..6).map(|number| json!({"name": number.to_string()})).collect();
    values.extend([
        json!({"name": "b", "type": "b", "b": [1, 1.5, null, {"a": {}, "B": []}], "": "c"}),
        json!({"b": "\"\n\\ \u{e9}\u{1F600}", "a": " "}),
        json!({"b": 1}),
        json!({"b": " "}),
        json!({"b": "<e>"}),
        json!({"<e>": "a", "b": 1}),
        json!({"b": "a", "<e>": 1}),
        json!({"b": "a", "c": (0..60).fold(json!(vec![1; 2_000]), |value, _| json!([value]))}),
        json!({"b": "<assistant>"}),
        json!({"b": "\u{FDD0}\u{FDD1}"}),
        json!({"\u{F0000}": "a"}),
        json!({"\u{F0001}": 0}),
        json!({"b": "\u{F0000}\u{F0001}"}),
        json!({"b": 1e300, "c": -0.0, "d": 1e16, "e": 18446744073709551615_u64}),
        json!({"b": "</think>"}),
        json!({"b": "b".repeat(70_000)}),
        json!({}),
        nested(20),
        nested(62),
        nested(63),
        nested(64),
        nested(65),
        json!("b"),
        json!(" "),
        json!(7),
        json!(["b"]),
    ]);
    values
}

fn called(arguments: &Value) -> Vec<Turn> {
    let call = json!([{"type": "function", "function": {"name": "f", "arguments": arguments}}]);
    let members = [(CALLS.to_owned(), call)].into_iter().collect();
    let extras = Some(Box::new(Extras { members, ..Extras::default() }));
    vec![
        Turn::new(Role::User, "q"),
        Turn { extras, ..Turn::new(Role::Assistant, "a") },
        Turn::new(Role::Tool, "r"),
        Turn::new(Role::Assistant, "So."),
    ]
}

/// Renders rows with these tools or arguments. Returns for each whether Jinja was not needed.
fn rendered(template: &Template, values: &[Value], is_tools: bool, tools: usize) -> Vec<bool> {
    let usual = json!({"name": "f", "parameters": {}});
    let row = |value: &Value| {
        let all: Vec<Value> = (0..tools).map(|_| value).chain([&usual]).cloned().collect();
        let tools = Some(if is_tools { all.into() } else { json!([usual]) });
        let inputs = TemplateInputs { tools, ..TemplateInputs::default() };
        let turns = called(if is_tools { &usual } else { value });
        is_filled(template, Script { turns: &turns, inputs: Some(&inputs) })
    };
    values.iter().map(row).collect()
}

#[test]
fn rows_with_other_tools_and_arguments_are_rendered_as_jinja_renders_them() {
    for tools in TOOLS {
        for call in CALL {
            for (is_tools, number) in [(true, 1), (true, 2), (false, 1)] {
                let template = writing(tools, call);
                let usual = &rendered(&template, &values()[..6], is_tools, number);
                // Each row is rendered a few times.
                assert_eq!(usual[..], [false, true, true, true, true, true], "{tools} {call}");
                let odd = rendered(&template, &values(), is_tools, number);
                assert!(odd.iter().any(|is_filled| !is_filled), "{tools} {call}");
            }
        }
    }
}

#[test]
fn tools_and_arguments_that_a_template_reads_belong_to_the_sequence() {
    for (tools, call) in READ {
        for is_tools in [true, false] {
            let template = writing(&format!("{}{tools}", TOOLS[0]), &format!("{}{call}", CALL[0]));
            for _ in 0..=2 * TIMES_FIRST {
                rendered(&template, &values(), is_tools, 1);
            }
            let others: Vec<Value> = (0..6).map(|number| json!({"name": number * 7})).collect();
            let is_read = is_tools == call.is_empty();
            let found = rendered(&template, &others, is_tools, 1);
            assert!(!is_read || !found.contains(&true), "{tools} {call}");
        }
    }
}

#[test]
fn what_is_not_read_stays_sealed() {
    let template =
        writing("{% for t in tools or [] %}{{ t.name }}{{ t|tojson }}{% endfor %}", CALL[0]);
    rendered(&template, &vec![values()[0].clone(); 9], true, 1);
    assert!(rendered(&template, &values()[..6], false, 1)[5]);
    assert!(!rendered(&template, &values()[..6], true, 1)[5]);
    let template = writing(TOOLS[0], "{{ 'Y' if c.function.arguments.b }}{{ c|tojson }}");
    rendered(&template, &vec![values()[0].clone(); 9], false, 1);
    assert!(rendered(&template, &values()[..6], true, 1)[5]);
    let others: Vec<Value> = (0..6).map(|number| json!({"name": "a", "n": number})).collect();
    assert!(!rendered(&template, &others, false, 1)[5]);
}

#[test]
fn a_prompt_that_writes_tools_in_another_way_is_rendered_with_jinja() {
    let tools = "{{ tools|tojson(sort_keys=not add_generation_prompt) if tools }}";
    let template = writing(tools, CALL[0]);
    let sorted = |number: usize| json!({"b": number, "a": number});
    let values: Vec<Value> = (0..9).map(sorted).collect();
    assert!(!rendered(&template, &values, true, 1).contains(&true));
}
