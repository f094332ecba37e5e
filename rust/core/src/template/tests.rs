//! Tests of rendering and of the ranges with labels.

use proptest::collection::vec;

use super::*;
use crate::dialogue::{Role, Turn};
use crate::stage::Code;

fn special() -> SpecialTokens {
    SpecialTokens { bos: Some("<s>".into()), eos: Some("</s>".into()), ..SpecialTokens::default() }
}

fn turns(texts: &[(&str, &str)]) -> Vec<Turn> {
    texts.iter().map(|(role, text)| Turn::new(Role::named((*role).to_owned()), *text)).collect()
}

#[test]
fn zephyrs_golden_string() {
    let template = Template::new("zephyr", ZEPHYR, &special(), &[]).expect("compiles");
    let rendered = template
        .render(&turns(&[("system", ""), ("user", "Hi"), ("assistant", "Yo")]))
        .expect("renders");
    assert_eq!(rendered.text, "<|system|>\n</s>\n<|user|>\nHi</s>\n<|assistant|>\nYo</s>\n");
    assert_eq!(&rendered.text[rendered.trained[0].clone()], "Yo</s>");
}

/// Fails unless the fast path and minijinja render the same.
fn check_both(turns: &[Turn]) {
    let fast = Template::new("zephyr", ZEPHYR, &special(), &[]).expect("compiles");
    let jinja = jinja::Jinja::new(&TemplateSource::plain(
        "zephyr",
        ZEPHYR.trim_end(),
        &special(),
        &["</s>".to_owned()],
    ))
    .expect("compiles");
    match fast.render(turns) {
        Ok(rendered) => assert_eq!(*rendered, jinja.render(turns.into()).expect("renders")),
        Err(reason) => {
            assert_eq!(reason.code, Code::MaskNotProvable);
            assert!(turns.iter().any(|turn| turn.role == Role::Tool), "{turns:?}");
        }
    }
    assert_eq!(
        fast.render_prompt(turns).expect("renders"),
        jinja.render_prompt(turns.into()).expect("renders")
    );
}

#[test]
fn the_fast_path_and_minijinja_render_the_same() {
    for texts in [
        &[
            ("user", "a {{ b }} {% c %}\n"),
            ("assistant", "\n  x\n\n"),
            ("user", ""),
            ("assistant", " "),
        ][..],
        &[("system", "s"), ("user", "ü\u{2028}"), ("assistant", "</s>")][..],
    ] {
        check_both(&turns(texts));
    }
}

#[test]
fn a_message_that_a_template_leaves_out_is_refused_by_its_role() {
    let of_known = "{% for m in messages %}{% if m.role in ['user', 'assistant'] %}\
        <{{ m.role }}>{{ m.content }}<e>{% endif %}{% endfor %}";
    for text in [ZEPHYR, of_known] {
        let template = Template::new("t", text, &special(), &["<e>".to_owned()]).expect("compiles");
        for role in ["developer", "tool", "ipython"] {
            let turns = turns(&[(role, "gone"), ("user", "q"), ("assistant", "yes")]);
            let reason = template.render(&turns).expect_err("leaves it out");
            assert_eq!(reason.code, Code::MaskNotProvable);
            assert!(reason.detail.expect("has a detail").contains(role));
            assert!(!template.render_prompt(&turns).expect("renders").contains("gone"));
        }
    }
}

const TAGGED: &str = "{% for m in messages %}<{{ m.role }}>\
    {% if m.role == 'assistant' %}{% generation %}{{ m.content }}<e>{% endgeneration %}\
    {% else %}{{ m.content }}{% endif %}{% endfor %}";
const PLAIN: &str = "{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}<e>\n{% endfor %}";

#[test]
fn no_more_pages_are_kept_than_were_used_at_a_time() {
    for text in [ZEPHYR, PLAIN] {
        let template = Template::new("t", text, &special(), &["<e>".to_owned()]).expect("compiles");
        let turns = turns(&[("user", "q"), ("assistant", "yes")]);
        for _ in 0..9 {
            let both = [
                template.render(&turns).expect("renders"),
                template.render(&turns).expect("renders"),
            ];
            assert_eq!(*both[0], *both[1]);
        }
        assert_eq!(template.pages.kept(), 2);
    }
}

#[test]
fn masks_are_found_with_generation_tags_and_without() {
    for text in [TAGGED, PLAIN] {
        let template = Template::new("t", text, &special(), &["<e>".to_owned()]).expect("compiles");
        let rendered =
            template.render(&turns(&[("user", "q"), ("assistant", " yes ")])).expect("renders");
        let expected = if text == TAGGED { " yes <e>" } else { "yes<e>" };
        assert_eq!(&rendered.text[rendered.trained[0].clone()], expected);
    }
}

#[test]
fn derivations_that_disagree_refuse_the_template_by_name() {
    let header = "{% for m in messages %}\
        {% generation %}<{{ m.role }}>{{ m.content }}<e>{% endgeneration %}{% endfor %}";
    let outside = "{% for m in messages %}<{{ m.role }}>{{ m.content }}\
        {% generation %}<e>{% endgeneration %}{% endfor %}";
    let early = "{% for m in messages %}\
        {% if m.role == 'assistant' %}{% generation %}<a>{{ m.content }}<e>{% endgeneration %}\
        {% else %}<u>{{ m.content }}<e>{% endif %}{% endfor %}\
        {% if add_generation_prompt %}<a>{% endif %}";
    let swallows = "{% for m in messages %}<{{ m.role }}>\
        {{ m.role if m.role == 'assistant' else m.content }}<e>{% endfor %}";
    for (text, why) in [
        (header, "the trained range includes text that is not from the assistant"),
        (outside, "an assistant message is outside the template's generation tags"),
        (early, "overlaps the prompt before it"),
        (swallows, "the assistant messages cannot be located"),
    ] {
        let error = Template::new("mine.jinja", text, &special(), &["<e>".to_owned()])
            .expect_err("refused")
            .to_string();
        assert!(error.contains("`mine.jinja`") && error.contains(why), "{error}");
    }
}

#[test]
fn a_row_whose_answer_the_template_changes_is_set_aside() {
    let text = "{% for m in messages %}<{{ m.role }}>{{ m.content.split('#')[-1] }}<e>{% endfor %}";
    let template = Template::new("t", text, &special(), &["<e>".to_owned()]).expect("compiles");
    assert!(template.render(&turns(&[("user", "q"), ("assistant", "yes")])).is_ok());
    let reason =
        template.render(&turns(&[("user", "q"), ("assistant", "a#b")])).expect_err("set aside");
    assert_eq!(reason.code.word(), "mask_not_provable");
}

#[test]
fn a_row_over_its_cap_is_set_aside_and_the_next_one_is_not() {
    let text = "{% for m in messages %}{% if m.content == 'bomb' %}\
        {% for i in range(90000) %}{{ m.content * 9000 }}{% endfor %}{% endif %}\
        <{{ m.role }}>{{ m.content }}<e>{% endfor %}";
    let template = Template::new("t", text, &special(), &["<e>".to_owned()]).expect("compiles");
    let reason =
        template.render(&turns(&[("user", "bomb"), ("assistant", "yes")])).expect_err("set aside");
    assert_eq!(reason.code.word(), "template_error");
    assert!(template.render(&turns(&[("user", "q"), ("assistant", "yes")])).is_ok());
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(200))]

    #[test]
    fn trained_ranges_are_the_answers_and_their_ends_in_order(
        texts in vec(
            ("[a-c <>{}%\n\u{e9}\u{2028}]{0,12}", "[a-c <>{}%\n\u{fdd0}]{0,12}"),
            1..5,
        ),
    ) {
        let spoken: Vec<(&str, &str)> = texts
            .iter()
            .flat_map(|(ask, say)| [("user", ask.as_str()), ("assistant", say.as_str())])
            .collect();
        for (text, end) in [(ZEPHYR, "</s>"), (TAGGED, "<e>")] {
            let template =
                Template::new("t", text, &special(), &["<e>".to_owned()]).expect("compiles");
            let rendered = template.render(&turns(&spoken)).expect("renders");
            let trained: Vec<&str> =
                rendered.trained.iter().map(|range| &rendered.text[range.clone()]).collect();
            let expected: Vec<String> =
                texts.iter().map(|(_, say)| format!("{say}{end}")).collect();
            proptest::prop_assert_eq!(trained, expected);
            let mut pairs = rendered.trained.windows(2);
            proptest::prop_assert!(pairs.all(|pair| pair[0].end <= pair[1].start));
        }
    }

    #[test]
    fn zephyrs_fast_path_writes_what_jinja_writes(
        spoken in vec(("system|user|assistant|tool", "[a-c <>{}%\n\u{e9}\u{1c}]{0,12}"), 1..6),
    ) {
        let turn = |(role, text)| Turn::new(Role::named(role), text);
        check_both(&spoken.into_iter().map(turn).collect::<Vec<_>>());
    }
}

#[test]
fn a_template_that_asks_for_the_date_or_does_not_compile_is_refused_by_name() {
    for text in ["{{ strftime_now('%d') }}", "{% for %}", "{{ unknown_function() }}"] {
        let error =
            Template::new("mine.jinja", text, &special(), &[]).expect_err("refused").to_string();
        assert!(error.contains("mine.jinja"), "{error}");
    }
}
