//! A template's source made ready for minijinja: generation tags become blocks it knows, line ends become Jinja's.

use regex::{Captures, Regex};

/// The filter that generation tags turn into.
pub(super) const FILTER: &str = "__generation";

/// The source, and whether it has generation tags.
pub(super) fn prepared(text: &str) -> (String, bool) {
    // Jinja reads every line end as `\n`, in strings too, and drops the last one.
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let text = text.strip_suffix('\n').unwrap_or(&text);
    // Comments, raw blocks, expressions and other tags are stepped over whole, so that a tag in a string stays a string.
    let string = r#""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'"#;
    let pattern = format!(
        r#"(?s)\{{#.*?#\}}|\{{%[-+]?\s*raw\s*[-+]?%\}}.*?\{{%[-+]?\s*endraw\s*[-+]?%\}}|\{{\{{(?:{string}|[^"'])*?\}}\}}|\{{%(?P<before>[-+]?)\s*(?P<end>end)?generation\s*(?P<after>[-+]?)%\}}|\{{%(?:{string}|[^"'])*?%\}}"#
    );
    let pattern = Regex::new(&pattern).expect("the pattern is constant");
    let mut has_tags = false;
    let source = pattern.replace_all(text, |found: &Captures| {
        let (Some(before), Some(after)) = (found.name("before"), found.name("after")) else { return found[0].to_owned() };
        has_tags = true;
        let (before, after) = (before.as_str(), after.as_str());
        // What Jinja's tag encloses is a scope of its own: a `set` in it is not seen outside. A filter block has none, `with` has.
        match found.name("end") {
            None => format!("{{%{before} filter {FILTER} %}}{{% with {after}%}}"),
            Some(_) => format!("{{%{before} endwith %}}{{% endfilter {after}%}}"),
        }
    });
    (source.into_owned(), has_tags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_become_blocks_with_their_white_space_marks() {
        let (source, has_tags) = prepared("a {%- generation %}b{%+ endgeneration -%}\r\n\n");
        assert_eq!(source, "a {%- filter __generation %}{% with %}b{%+ endwith %}{% endfilter -%}\n");
        assert!(has_tags);
    }

    #[test]
    fn what_only_looks_like_a_tag_is_left_alone() {
        for text in [
            "{# {% generation %} #}",
            "{% raw %}{% generation %}{% endraw %}",
            "{{ '{% generation %}' }}",
            "{% set x = \"{% generation %}\" %}",
        ] {
            assert_eq!(prepared(text), (text.to_owned(), false));
        }
    }
}
