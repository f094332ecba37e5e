//! Whatever a template does with contents, a dialogue is rendered as Jinja renders it.

mod calls;
mod fuel;
mod kept;
mod sealed;
mod tools;

use super::slots::{FIRST, MESSAGES_MAX};
use super::*;
use crate::dialogue::{Content, Extras};
use crate::recipe::TrainEnd;
use crate::template::{Kind, TEMPLATES, Template, TemplateSource};
use crate::tokenize::SpecialTokens;

/// Expressions that write a content as it is.
const WRITE: [&str; 19] = [
    "m.content",
    "m['content']",
    "m.get('content')",
    "m.content + ''",
    "'' ~ m.content",
    "m.content if m.content else 'none'",
    "m.content or 'none'",
    "m.content if m.content is string and m.content is not none else ''",
    "m.content if m.content != none else ''",
    "m.content|default('none')",
    "m.content|string",
    "m.content|safe",
    "[m.content][0]",
    "{'a': m.content}['a']",
    "{'a': m.content}.a",
    "namespace(a=m.content).a",
    "[m.content, '']|join('')",
    "(messages[loop.index0:]|first).content",
    "echo(m.content)",
];
/// Expressions for which white space at the ends of a content makes a difference.
const STRIP: [&str; 5] = [
    "m.content|trim",
    "m.content.strip()",
    "m.content.rstrip('\\n')",
    "(m.content ~ '\\n')|trim",
    "m['content'].lstrip(' \\t') + ''",
];
/// Questions whose answer is known for contents without `b`.
const ASK: [&str; 9] = [
    "'b' in m.content",
    "not 'b' not in m.content",
    "m.content == 'b'",
    "'b' != m.content",
    "m.content.startswith('b')",
    "m.content.strip().endswith(\"b\")",
    "m.content is defined and 'b' in m.content|trim",
    "'b' in m.content and m.content|length > 2",
    "'content' in m and 'b' in m['content']",
];
/// Questions that look into a content. None is true of the dialogues that a template is tried with.
const LOOK: [&str; 79] = [
    "'bb' in m.content ~ m.content",
    "[[[[[[[[[[[[[[[[[[m.content]]]]]]]]]]]]]]]]]] == [[[[[[[[[[[[[[[[[['b']]]]]]]]]]]]]]]]]]",
    "m.content|length == 1",
    "m.content|count < 3",
    "m.content|upper == 'B'",
    "m.content|capitalize == 'B'",
    "m.content|tojson == '\"b\"'",
    "m.content|first == 'b'",
    "m.content|last == 'b'",
    "m.content|list|length == 1",
    "m.content|list == ['b']",
    "m.content|reverse == 'b'",
    "m.content|replace('b', 'c') == 'c'",
    "m.content|trim('b') == ''",
    "m.content|escape == '&lt;a&gt;'",
    "m.content|safe + '<' == 'b<'",
    "'<' + m.content|safe == '<b'",
    "m.content|indent(2) == 'b'",
    "m.content|default('x')|length == 1",
    "m.content|string|length == 1",
    "m.content[0] == 'b'",
    "m.content[-1:] == 'b'",
    "m.content[loop.index0 - loop.index0] == 'b'",
    "m.content.upper() == 'B'",
    "m.content.strip('b') == ''",
    "m.content.split('b')[0] == 'a'",
    "m.content.find('b') == 1",
    "m.content.replace('b', 'c') == 'c'",
    "m.content.splitlines()|length == 2",
    "m.content.removeprefix('b') == 'c '",
    "m.content.isspace()",
    "m.content.islower() and 'b' in m.content",
    "m.content < ' b'",
    "' b' >= m.content",
    "m.content == m.role",
    "m.role == m.content",
    "m.content == messages[0].content and loop.index0 == 1",
    "m.content == m.content|trim|lower",
    "m.role in m.content",
    "m.content in ['b', 'user']",
    "m.content in 'bbb'",
    "'bx' == m.content ~ 'x'",
    "'xb' in 'x' ~ m.content",
    "(m.content ~ 'x').startswith('bx')",
    "('x' + m.content).endswith('xb')",
    "'b' in [m.content, 'c']",
    "[m.content] == ['b']",
    "{'x': m.content} == {'x': 'b'}",
    "m.content is eq('b')",
    "m.content is in(['b'])",
    "m == messages[0] and loop.index0 == 1",
    "messages|map(attribute='content')|join == 'bb'",
    "messages|selectattr('content', 'equalto', 'b')|list|length == 2",
    "messages|rejectattr('content', 'in', ['b'])|list|length == 0",
    "{'b': 1}[m.content] == 1",
    "{'b': 1}.get(m.content, 2) == 1",
    "'%s!' % m.content == 'b!'",
    "'%s' % m.content|length == '1'",
    "m.content * 2 == 'bb'",
    "m.content.format() == 'b'",
    "size(m.content) == '1'",
    "namespace(a=m.content).a|length == 1",
    "(m.content if m.content else '')|length == 1",
    "(m.content or '')|length == 1",
    "[m.content, 'x']|join('-')|length == 3",
    "['x', 'x']|join(m.content)|length == 3",
    "(m.content ~ '')|length == 1",
    "(m.content + '')|length == 1",
    "m.get('content')|length == 1",
    "m['content']|length == 1",
    "messages[loop.index0]['content']|length == 1",
    "messages[loop.index0:][0].content|length == 1",
    "(messages[loop.index0:]|first)['content']|length == 1",
    "m.values()|list|length == 1 or m.items()|list == [('role', 'user'), ('content', 'b')]",
    "not m.content|length > 1",
    "m.content|length > 1 and m.content|length < 3",
    "loop.changed(m.content) is none",
    "loop.cycle(m.content, 'x') == 'b'",
    "range(m.content|length)|list|length == 1",
];
/// Blocks that do.
const BLOCKS: [&str; 10] = [
    "{% for c in m.content %}{{ 'Y' if c == 'b' }}{% endfor %}",
    "{% for c in [m.content] if c < ' b' %}.{% endfor %}",
    "{% set x %}{{ m.content }}{% endset %}{{ 'Y' if x|length == 1 }}",
    "{% set x|length %}{{ m.content }}{% endset %}{{ 'Y' if x == '1' }}",
    "{% set x|trim %} {{ m.content }}{% endset %}{{ 'Y' if x|length == 1 }}",
    "{% set other = size %}{{ 'Y' if other(m.content) == '1' }}",
    "{% set dict = size %}{{ 'Y' if dict(m.content) == '1' }}",
    "{% with x = m.content %}{{ 'Y' if x|length == 1 }}{% endwith %}",
    "{% set ns = namespace() %}{% set ns.x = m.content %}{{ 'Y' if ns.x|length == 1 }}",
    "{% set x %}{% call size('b') %}{{ m.content }}{% endcall %}{% endset %}{{ 'Y' if x == '11' }}",
];
const CONTENTS: [&str; 12] =
    ["", " ", "a", "aa", " a\n", "b", "ab", "bc ", "user", "<a>", "</think>a", "\u{FDD1}a"];

fn template(text: &str, train_end: TrainEnd) -> Option<Template> {
    let special = SpecialTokens { eos: Some("<e>".to_owned()), ..SpecialTokens::default() };
    let control = ["<e>", "<|im_end|>", "<|im_start|>", "<|eot_id|>"].map(str::to_owned);
    let plain = TemplateSource::plain("t", text, &special, &control);
    Template::load(TemplateSource { train_end, ..plain }).ok()
}

/// A template that writes `header` and an expression for each message.
fn writing(header: &str, content: &str) -> Option<Template> {
    let macros = "{% macro echo(x) %}{{ x }}{% endmacro %}\
        {% macro size(x) %}{{ x|length }}{{ caller()|length if caller }}{% endmacro %}";
    let text = format!(
        "{macros}{{% for m in messages %}}<{{{{ m.role }}}}>{header}[{{{{ {content} }}}}<e>\
        {{% endfor %}}{{% if add_generation_prompt %}}<assistant>{{% endif %}}"
    );
    template(&text, TrainEnd::AsIs)
}

/// Compares every way to render a dialogue with Jinja's. Returns whether Jinja was not needed.
fn is_filled<'row>(template: &Template, script: impl Into<Script<'row>>) -> bool {
    let Kind::Jinja { jinja, skeletons } = &template.kind else { panic!("not Jinja") };
    let script = script.into();
    let turns = script.turns;
    let page = template.render(script).map(|page| Rendered::clone(&page));
    assert_eq!(page, jinja.render(script), "{} on {turns:?}", template.text());
    let prompt = template.render_prompt(script);
    assert_eq!(prompt, jinja.render_prompt(script), "{} on {turns:?}", template.text());
    let text = template.text_alone(script).expect("is not Zephyr's");
    assert_eq!(text, jinja.render_text(script), "{} on {turns:?}", template.text());
    skeletons.fill(jinja, script, Wanted::Whole, &mut Rendered::default())
}

/// Dialogues of one or two rounds with these contents in every order.
fn dialogues() -> impl Iterator<Item = Vec<Turn>> {
    let number = CONTENTS.len();
    (0..number * number).map(move |pair| {
        let (asked, said) = (CONTENTS[pair / number], CONTENTS[pair % number]);
        let mut turns = vec![Turn::new(Role::User, asked), Turn::new(Role::Assistant, said)];
        if pair % 3 == 0 {
            turns.insert(0, Turn::new(Role::System, said));
            turns.extend([Turn::new(Role::User, said), Turn::new(Role::Assistant, asked)]);
        }
        turns
    })
}

/// Whether each content holds more than white space, and nothing that is never filled.
fn is_usual(turns: &[Turn]) -> bool {
    let is_odd = |turn: &Turn| {
        let text = turn.text.as_str();
        text.trim().is_empty() || text.contains('\u{FDD1}') || can_split(turn)
    };
    !turns.iter().any(is_odd)
}

fn is_bare(turns: &[Turn]) -> bool {
    turns.iter().all(|turn| turn.text.trim() == turn.text)
}

#[test]
fn templates_that_write_contents_need_jinja_for_odd_dialogues_only() {
    for expression in WRITE {
        let template = writing("", expression).expect("loads");
        for turns in dialogues() {
            assert_eq!(is_filled(&template, &turns), is_usual(&turns), "{expression} {turns:?}");
        }
    }
    for expression in STRIP {
        let template = writing("", expression).expect("loads");
        for turns in dialogues() {
            let expected = is_usual(&turns) && is_bare(&turns);
            assert_eq!(is_filled(&template, &turns), expected, "{expression} {turns:?}");
        }
    }
}

#[test]
fn white_space_makes_a_difference_to_tags_and_blocks_that_strip() {
    let tagged = "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' %}\
        {% generation %}{{ m.content }}<e>{% endgeneration %}{% else %}{{ m.content }}{% endif %}\
        {% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";
    let of_block = writing("{% set x|trim %}{{ m.content }}{% endset %}", "x");
    for template in [template(tagged, TrainEnd::AsIs), of_block] {
        let template = template.expect("loads");
        for turns in dialogues() {
            let expected = is_usual(&turns) && is_bare(&turns);
            assert_eq!(is_filled(&template, &turns), expected, "{} {turns:?}", template.text());
        }
    }
}

#[test]
fn a_prompt_that_an_answer_may_continue_needs_jinja() {
    let text = "{% for m in messages %}<{{ m.role }}>{{ m.content }}<e>{% endfor %}\
        {% if messages[-1].role == 'user' %}<assistant>b{% endif %}";
    let template = template(text, TrainEnd::AsIs).expect("loads");
    let mut refused = 0;
    for turns in dialogues() {
        assert!(!is_filled(&template, &turns), "{turns:?}");
        refused += usize::from(template.render(&turns).is_err());
    }
    assert!(refused > 0);
}

#[test]
fn questions_are_asked_of_each_content() {
    for question in ASK {
        let template = writing(&format!("{{{{ {question} }}}}"), "m.content");
        let template = template.expect("loads");
        let strips = question.contains("strip") || question.contains("trim");
        for turns in dialogues() {
            let has_none = turns.iter().all(|turn| !turn.text.contains('b'));
            let expected = is_usual(&turns) && has_none && (is_bare(&turns) || !strips);
            assert_eq!(is_filled(&template, &turns), expected, "{question} {turns:?}");
        }
    }
}

#[test]
fn questions_in_the_prompt_are_asked_of_each_content_too() {
    let template = writing("{{ 'Y' if add_generation_prompt and 'b' in m.content }}", "m.content");
    let template = template.expect("loads");
    for turns in dialogues() {
        let has_none = turns.iter().all(|turn| !turn.text.contains('b'));
        assert_eq!(is_filled(&template, &turns), is_usual(&turns) && has_none, "{turns:?}");
    }
}

#[test]
fn templates_that_look_into_contents_are_rendered_with_jinja() {
    let headers = LOOK.map(|question| format!("{{{{ 'Y' if {question} }}}}"));
    let mut refused = Vec::new();
    for header in headers.iter().map(String::as_str).chain(BLOCKS) {
        let Some(template) = writing(header, "m.content") else {
            refused.push(header);
            continue;
        };
        for turns in dialogues() {
            assert!(!is_filled(&template, &turns), "{header} {turns:?}");
        }
    }
    assert_eq!(refused, [""; 0]);
}

#[test]
fn an_end_that_the_next_content_may_complete_is_searched_with_jinja() {
    let text = "{% for m in messages %}{% if m.role != 'user' or loop.first %}<{{ m.role }}>\
        {% endif %}{{ m.content }}{% if m.role == 'assistant' %}{{ '<e>' if loop.last else '<e' }}\
        {% endif %}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";
    let template = template(text, TrainEnd::AsIs).expect("loads");
    let roles = [Role::User, Role::Assistant, Role::User, Role::Assistant];
    let turns: Vec<Turn> = roles.into_iter().map(|role| Turn::new(role, ">a")).collect();
    assert!(is_filled(&template, &turns[..2]));
    assert!(!is_filled(&template, &turns));
}

#[test]
fn a_template_that_writes_a_placeholder_itself_needs_jinja() {
    for (instead, is_for_prompts) in [("loop.first", false), ("loop.first and prompt", true)] {
        let text = format!(
            "{{% set prompt = add_generation_prompt %}}{{% for m in messages %}}<{{{{ m.role }}}}>\
            {{% if {instead} %}}{{{{ 'Z' if 'another content' in m.content }}}}{FIRST}{{% else %}}\
            {{{{ m.content }}}}{{% endif %}}<e>{{% endfor %}}\
            {{% if prompt %}}<assistant>{{% endif %}}"
        );
        let template = template(&text, TrainEnd::AsIs).expect("loads");
        let roles = [Role::User, Role::Assistant, Role::User, Role::Assistant];
        let turns: Vec<Turn> = roles
            .into_iter()
            .zip(["a", "b", "c", "d"])
            .map(|(role, text)| Turn::new(role, text))
            .collect();
        for length in 1..=turns.len() {
            let is_filled = is_filled(&template, &turns[..length]);
            assert!(is_for_prompts || !is_filled);
        }
    }
}

#[test]
fn bundled_templates_are_filled() {
    for (name, text) in TEMPLATES {
        let template = template(text, TrainEnd::AsIs).expect("loads");
        if matches!(template.kind, Kind::Jinja { .. }) {
            for turns in dialogues() {
                let is_filled = is_filled(&template, &turns);
                let expected = is_usual(&turns) && is_bare(&turns);
                assert!(is_filled || !expected, "{name} {turns:?}");
            }
        }
    }
}

#[test]
fn the_example_at_the_head_is_filled() {
    let text = "{% for m in messages %}<{{ 'bot' if m.role == 'assistant' else m.role }}>\
        {{ m.content }}<e>{% endfor %}";
    let template = template(text, TrainEnd::Require).expect("loads");
    let Kind::Jinja { jinja, .. } = &template.kind else { panic!("not Jinja") };
    let turns = [Turn::new(Role::User, "Why?"), Turn::new(Role::Assistant, "So.")];
    let made = Skeleton::of_sequence(jinja, (&turns).into(), Wanted::Whole, Seals::default())
        .expect("is opaque");
    let pieces: Vec<(&str, usize)> =
        made.pieces.iter().map(|(text, index)| (text.as_str(), *index)).collect();
    assert_eq!((&pieces[..], made.tail.as_str()), (&[("<user>", 0), ("<e><bot>", 1)][..], "<e>"));
    let mut page = Rendered::default();
    made.fill(&slots((&turns).into(), Seals::default()), &mut page);
    assert_eq!(page.text, "<user>Why?<e><bot>So.<e>");
    assert_eq!((page.trained.len(), &page.trained[0], &page.answers[..]), (1, &(18..24), &[1][..]));
}

#[test]
fn other_sequences_and_long_dialogues_need_jinja() {
    let template = writing("", "m.content|trim").expect("loads");
    let [system, user, assistant] = [Role::System, Role::User, Role::Assistant];
    let usual: Vec<Role> =
        [&user, &assistant].into_iter().cycle().take(MESSAGES_MAX).cloned().collect();
    let long = [&usual[..], std::slice::from_ref(&user)].concat();
    let with_system = [std::slice::from_ref(&system), &usual[..3]].concat();
    for (roles, expected) in [
        (&usual[..], true),
        (&usual[..1], true),
        (&with_system, true),
        (&long, false),
        (&usual[1..], false),
        (&[user.clone(), user], false),
        (&[system, assistant], false),
        (&[Role::Tool], false),
        (&[], false),
    ] {
        let turns: Vec<Turn> = roles.iter().map(|role| Turn::new(role.clone(), "a")).collect();
        assert_eq!(is_filled(&template, &turns), expected, "{roles:?}");
    }
    let extras = Extras { content: Content::Part, ..Extras::default() };
    let turn = Turn { extras: Some(Box::new(extras)), ..Turn::new(Role::User, "a") };
    assert!(!is_filled(&template, &[turn]));
}
