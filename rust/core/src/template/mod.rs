//! Chat templates: they render dialogues as the text that a model reads, with the ranges that
//! contribute to the loss.
//!
//! The Zephyr template is implemented natively. All other templates run in minijinja with the
//! settings and functions that `transformers` uses for Jinja, and without access to files, the
//! network or the clock.

mod guards;
mod jinja;
mod limits;
mod marks;
mod mask;
mod page;
mod parts;
mod python;
mod source;
mod tojson;
mod usage;
mod zephyr;

use serde::{Deserialize, Serialize};

pub use self::page::Page;

use self::page::Pages;
use crate::dialogue::Script;
use crate::error::{Error, Result};
use crate::normal::sha256_hex;
use crate::sample::Rendered;
use crate::stage::Reason;
use crate::tokenize::SpecialTokens;

/// The version of rendering and of the ranges.
pub const VERSION: u32 = 2;

/// The bundled templates, by their names in recipes.
pub const TEMPLATES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/templates.rs"));

/// The Zephyr template, identical to the one in the model's `tokenizer_config.json` plus a final
/// newline. It is the only one that is rendered natively.
pub const ZEPHYR: &str = include_str!("../../../../python/zephyr_fast/templates/zephyr.jinja");

/// A template that is not bundled, with everything that a run would load it with, because any of it
/// may affect whether the template is harmful.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UnknownTemplate {
    /// Its name in recipes.
    pub name: String,
    /// Its Jinja source.
    pub text: String,
    /// The tokenizer's special tokens by use.
    pub special: SpecialTokens,
    /// The texts of all special tokens.
    pub control: Vec<String>,
}

/// A template, ready to render.
#[derive(Debug)]
pub struct Template {
    name: String,
    text: String,
    kind: Kind,
    pages: Pages,
}

#[derive(Debug)]
enum Kind {
    Zephyr { eos: String },
    Jinja(Box<jinja::Jinja>),
}

impl Template {
    /// Compiles a template and renders a canary with it. Rejects templates that cannot be rendered
    /// faithfully.
    pub fn new(
        name: &str,
        text: &str,
        special: &SpecialTokens,
        control: &[String],
    ) -> Result<Template> {
        // Jinja drops one newline at the end of a source, so one is dropped here if the template
        // stays the same.
        let text = text
            .strip_suffix('\n')
            .filter(|rest| !rest.ends_with(['\n', '\r']))
            .unwrap_or(text)
            .to_owned();
        let is_zephyr = Some(text.as_str()) == ZEPHYR.strip_suffix('\n');
        let kind = match (&special.eos, is_zephyr) {
            (Some(eos), true) => Kind::Zephyr { eos: eos.clone() },
            (None, true) => {
                return Err(Error::Config(
                    "the zephyr template needs an `eos_token` in \
                    tokenizer_config.json"
                        .to_owned(),
                ));
            }
            (_, false) => Kind::Jinja(Box::new(jinja::Jinja::new(name, &text, special, control)?)),
        };
        Ok(Template { name: name.to_owned(), text, kind, pages: Pages::default() })
    }

    /// Whether a source is that of a bundled template.
    #[must_use]
    pub fn is_packaged(text: &str) -> bool {
        let without_end = |text: &str| text.strip_suffix('\n').unwrap_or(text).to_owned();
        TEMPLATES.iter().any(|(_, packaged)| without_end(packaged) == without_end(text))
    }

    /// Loads a template exactly as a run would. A hostile template can exhaust a process's stack or
    /// time, so this should run in a separate process. If it succeeds, so does loading it in the
    /// run, which takes the same steps. `unknown` is the JSON of a [`UnknownTemplate`].
    pub fn canary(unknown: &str) -> Result<()> {
        let unknown: UnknownTemplate =
            serde_json::from_str(unknown).map_err(|error| Error::Internal(error.to_string()))?;
        Template::new(&unknown.name, &unknown.text, &unknown.special, &unknown.control).map(|_| ())
    }

    /// Its name in recipes.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its Jinja source.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Everything the template writes by itself: its source and the output for a few words. It
    /// contains the role markers, including those that the source only assembles.
    #[must_use]
    pub fn written(&self) -> &str {
        match &self.kind {
            Kind::Zephyr { .. } => &self.text,
            Kind::Jinja(jinja) => &jinja.written,
        }
    }

    /// SHA-256 of its source, hex.
    #[must_use]
    pub fn sha256(&self) -> String {
        sha256_hex(self.text.as_bytes())
    }

    /// The text of a whole dialogue. Refuses a dialogue of which something would not be in the text.
    pub fn render<'row>(
        &self,
        script: impl Into<Script<'row>>,
    ) -> std::result::Result<Page<'_>, Reason> {
        let script = script.into();
        match &self.kind {
            Kind::Zephyr { eos } => {
                zephyr::check(&self.name, script)?;
                let mut page = self.pages.blank();
                zephyr::write(script.turns, eos, &mut page.rendered);
                Ok(page)
            }
            Kind::Jinja(jinja) => jinja.render(script).map(Page::from),
        }
    }

    /// Renders a dialogue without computing which ranges contribute to the loss. Returns `None` if
    /// that would not save much work.
    #[must_use]
    pub fn text_alone<'row>(
        &self,
        script: impl Into<Script<'row>>,
    ) -> Option<std::result::Result<String, Reason>> {
        match &self.kind {
            Kind::Zephyr { .. } => None,
            Kind::Jinja(jinja) => Some(jinja.render_text(script.into())),
        }
    }

    /// Renders the text before a completion: the dialogue so far and the generation prompt.
    pub fn render_prompt<'row>(
        &self,
        script: impl Into<Script<'row>>,
    ) -> std::result::Result<String, Reason> {
        let script = script.into();
        match &self.kind {
            Kind::Zephyr { eos } => {
                zephyr::check(&self.name, script)?;
                let mut rendered = Rendered::default();
                zephyr::write(script.turns, eos, &mut rendered);
                Ok(rendered.text + if script.turns.is_empty() { "" } else { "<|assistant|>\n" })
            }
            Kind::Jinja(jinja) => jinja.render_prompt(script),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;

    use super::*;
    use crate::dialogue::{Role, Turn};

    fn special() -> SpecialTokens {
        SpecialTokens {
            bos: Some("<s>".into()),
            eos: Some("</s>".into()),
            ..SpecialTokens::default()
        }
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
        let jinja =
            jinja::Jinja::new("zephyr", ZEPHYR.trim_end(), &special(), &["</s>".to_owned()])
                .expect("compiles");
        assert_eq!(
            *fast.render(turns).expect("renders"),
            jinja.render(turns.into()).expect("renders")
        );
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

    const TAGGED: &str = "{% for m in messages %}<{{ m.role }}>\
        {% if m.role == 'assistant' %}{% generation %}{{ m.content }}<e>{% endgeneration %}\
        {% else %}{{ m.content }}{% endif %}{% endfor %}";
    const PLAIN: &str =
        "{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}<e>\n{% endfor %}";

    #[test]
    fn no_more_pages_are_kept_than_were_used_at_a_time() {
        for (text, kept) in [(ZEPHYR, 2), (PLAIN, 0)] {
            let template =
                Template::new("t", text, &special(), &["<e>".to_owned()]).expect("compiles");
            let turns = turns(&[("user", "q"), ("assistant", "yes")]);
            for _ in 0..9 {
                let both = [
                    template.render(&turns).expect("renders"),
                    template.render(&turns).expect("renders"),
                ];
                assert_eq!(*both[0], *both[1]);
            }
            assert_eq!(template.pages.kept(), kept);
        }
    }

    #[test]
    fn masks_are_found_with_generation_tags_and_without() {
        for text in [TAGGED, PLAIN] {
            let template =
                Template::new("t", text, &special(), &["<e>".to_owned()]).expect("compiles");
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
        let text =
            "{% for m in messages %}<{{ m.role }}>{{ m.content.split('#')[-1] }}<e>{% endfor %}";
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
        let reason = template
            .render(&turns(&[("user", "bomb"), ("assistant", "yes")]))
            .expect_err("set aside");
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
            spoken in vec(("system|user|assistant", "[a-c <>{}%\n\u{e9}\u{1c}]{0,12}"), 1..6),
        ) {
            let turn = |(role, text)| Turn::new(Role::named(role), text);
            check_both(&spoken.into_iter().map(turn).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_template_that_asks_for_the_date_or_does_not_compile_is_refused_by_name() {
        for text in ["{{ strftime_now('%d') }}", "{% for %}", "{{ unknown_function() }}"] {
            let error = Template::new("mine.jinja", text, &special(), &[])
                .expect_err("refused")
                .to_string();
            assert!(error.contains("mine.jinja"), "{error}");
        }
    }
}
