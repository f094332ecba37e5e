//! Dialogues with tools and template arguments are rendered as Jinja renders them, too.

use serde_json::{Map, Value, json};

use super::{dialogues, is_bare, is_filled, is_usual, template, writing};
use crate::dialogue::{Role, Script, TemplateInputs, Turn};
use crate::recipe::TrainEnd;
use crate::template::skeleton::Wanted;
use crate::template::skeleton::kept::TIMES_FIRST;
use crate::template::skeleton::slots::{FIRST, is_placeholder};
use crate::template::{Kind, Template};

const TOOLS: &str = "{{ tools|tojson if tools and loop.first }}{{ style if loop.first }}";

fn inputs(tools: Value, style: Option<&str>) -> TemplateInputs {
    let style = style.map(|style| ("style".to_owned(), style.into()));
    TemplateInputs { tools: Some(tools), args: Map::from_iter(style) }
}

fn tool(name: &str) -> Value {
    json!([{"type": "function", "function": {"name": name, "parameters": {"x": [1, 1.0, null]}}}])
}

#[test]
fn tools_and_arguments_that_come_again_need_jinja_for_odd_dialogues_only() {
    for content in ["m.content", "m.content|trim"] {
        let template = writing(TOOLS, content).expect("loads");
        let all = [
            inputs(tool("f"), None),
            inputs(tool("g"), None),
            inputs(tool("f"), Some("short")),
            inputs(tool("f"), Some("long")),
            inputs(json!([tool("f")[0], tool("g")[0]]), None),
            inputs(json!([tool("g")[0], tool("f")[0]]), None),
        ];
        for round in 0..=TIMES_FIRST {
            for turns in dialogues() {
                for inputs in &all {
                    let script = Script { turns: &turns, inputs: Some(inputs) };
                    let is_filled = is_filled(&template, script);
                    let expected = is_usual(&turns) && (content == "m.content" || is_bare(&turns));
                    // A blank content belongs to the sequence.
                    let has_blank = turns.iter().any(|turn| turn.text.trim().is_empty());
                    assert!(!is_filled || expected || has_blank, "{content} {script:?}");
                    assert!(round < TIMES_FIRST || is_filled || !expected, "{content} {script:?}");
                }
            }
        }
    }
}

/// A question and an answer, rendered often with these tools. Returns whether Jinja was not needed
/// in the end.
fn is_filled_at_last(template: &Template, tools: &Value) -> bool {
    let inputs = inputs(tools.clone(), None);
    let turns = [Turn::new(Role::User, "f"), Turn::new(Role::Assistant, "a")];
    let script = Script { turns: &turns, inputs: Some(&inputs) };
    (0..=TIMES_FIRST).fold(false, |_, _| is_filled(template, script))
}

#[test]
fn tools_that_come_seldom_are_rendered_with_jinja() {
    let template = writing(TOOLS, "m.content").expect("loads");
    let Kind::Jinja { jinja, skeletons } = &template.kind else { panic!("not Jinja") };
    let turns = [Turn::new(Role::User, "f"), Turn::new(Role::Assistant, "a")];
    for times in 1..=TIMES_FIRST + 2 {
        let expected = times > TIMES_FIRST;
        let inputs = inputs(tool("f"), None);
        let script = Script { turns: &turns, inputs: Some(&inputs) };
        let mut page = crate::sample::Rendered::default();
        assert_eq!(skeletons.fill(jinja, script, Wanted::Whole, &mut page), expected, "{times}");
        assert_eq!(page.text.contains("\"name\": \"f\""), expected);
    }
}

#[test]
fn a_template_that_asks_contents_about_tools_is_rendered_with_jinja() {
    for question in [
        "tools[0].function.name in m.content",
        "m.content == tools[0].function.name",
        "m.content in tools[0].function",
        "tools[0].function[m.content]",
        "tools|selectattr('function.name', 'equalto', m.content)|list",
    ] {
        let header = format!("{TOOLS}{{{{ 'Y' if tools and ({question}) }}}}");
        let template = writing(&header, "m.content").expect("loads");
        assert!(!is_filled_at_last(&template, &tool("f")), "{question}");
    }
}

#[test]
fn tools_that_a_template_ignores_are_refused_however_often_they_come() {
    let template = writing("", "m.content").expect("loads");
    assert!(!is_filled_at_last(&template, &tool("f")), "the result was that of Jinja each time");
    let first = "{% for m in messages %}{{ tools[0]|tojson if tools and loop.first }}\
        <{{ m.role }}>{{ m.content }}<e>{% endfor %}";
    let template = self::template(first, TrainEnd::AsIs).expect("loads");
    assert!(is_filled_at_last(&template, &tool("f")));
    assert!(!is_filled_at_last(&template, &json!([tool("f")[0], tool("g")[0]])));
}

#[test]
fn tools_with_placeholders_and_marks_are_rendered_with_jinja_or_rightly() {
    let reading = format!("{TOOLS}{{{{ tools[0].type if tools }}}}");
    let reading = writing(&reading, "m.content").expect("loads");
    let template = writing(TOOLS, "m.content").expect("loads");
    for name in [FIRST.to_string(), "\u{F0001}\u{FDD0}".to_owned(), "\u{FDD0}".to_owned()] {
        is_filled_at_last(&template, &tool(&name));
        let is_filled = is_filled_at_last(&reading, &tool(&name));
        assert!(!is_filled || !name.contains(is_placeholder), "{name:?}");
    }
    let all: String = ('\u{FDD0}'..='\u{FDEF}').collect();
    assert!(!is_filled_at_last(&template, &tool(&all)), "no mark is left");
}
