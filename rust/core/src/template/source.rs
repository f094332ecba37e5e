//! Prepares a template's source for minijinja: generation tags become known blocks, and line ends
//! are normalized as in Jinja.

use std::sync::LazyLock;

use regex::{Captures, Regex};

/// The filter that replaces generation tags.
pub(super) const FILTER: &str = "__generation";

/// A string literal in Jinja.
const STRING: &str = r#""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'"#;
/// What is in the tags of a block that stores or filters its text. A `set` with a value is not a block.
const BLOCK: &str = r#"end(?:set|filter)|filter\s(?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[^"'])*?|set\s+[A-Za-z_][\w.]*(?:\s*\|(?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[^"'])*?)?"#;

/// A template's source, prepared for minijinja.
pub(super) struct Prepared {
    /// The source.
    pub source: String,
    /// Whether it contains generation tags.
    pub has_tags: bool,
    /// An escape in a string that Python reads otherwise.
    pub odd_escape: Option<String>,
}

/// Prepares a source.
pub(super) fn prepared(text: &str) -> Prepared {
    // Jinja reads every line end as `\n`, in strings too, and drops the last one.
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let text = text.strip_suffix('\n').unwrap_or(&text);
    // Comments, raw blocks, expressions and other tags are matched as units, so a tag inside a
    // string stays a string.
    let pattern = format!(
        r#"(?s)(?P<comment>\{{#.*?#\}})|(?P<raw>(?P<opens>\{{%[-+]?\s*raw\s*[-+]?%\}}).*?\{{%[-+]?\s*endraw\s*[-+]?%\}})|\{{\{{(?:{STRING}|[^"'])*?\}}\}}|\{{%(?P<before>[-+]?)\s*(?P<end>end)?generation\s*(?P<after>[-+]?)%\}}|\{{%(?P<lead>[-+]?)\s*(?P<block>{BLOCK})\s*(?P<tail>[-+]?)%\}}|\{{%(?:{STRING}|[^"'])*?%\}}"#
    );
    let pattern = Regex::new(&pattern).expect("the constant pattern is valid");
    let (mut has_tags, mut odd) = (false, None);
    let source = pattern.replace_all(text, |found: &Captures| {
        let (Some(before), Some(after)) = (found.name("before"), found.name("after")) else {
            if let Some(opens) = found.name("opens") {
                return raw_block(&found[0], opens.len());
            }
            if found.name("comment").is_none() {
                odd = odd.take().or_else(|| odd_escape(&found[0]));
            }
            return scoped(found).unwrap_or_else(|| found[0].to_owned());
        };
        has_tags = true;
        let (before, after) = (before.as_str(), after.as_str());
        // Jinja's tag opens a scope: a `set` inside it is not visible outside. A filter block opens
        // no scope, but `with` does.
        match found.name("end") {
            None => format!("{{%{before} filter {FILTER} %}}{{% with {after}%}}"),
            Some(_) => format!("{{%{before} endwith %}}{{% endfilter {after}%}}"),
        }
    });
    Prepared { source: source.into_owned(), has_tags, odd_escape: odd }
}

/// The tag of a block that stores or filters its text, with a scope: in Jinja, a `set` inside it is
/// not visible outside.
fn scoped(found: &Captures) -> Option<String> {
    let [lead, block, tail] = ["lead", "block", "tail"].map(|name| found.name(name));
    let (lead, block, tail) = (lead?.as_str(), block?.as_str(), tail?.as_str());
    Some(if block.starts_with("end") {
        format!("{{%{lead} endwith %}}{{% {block} {tail}%}}")
    } else {
        format!("{{%{lead} {block} %}}{{% with {tail}%}}")
    })
}

/// A raw block whose first line end stays, as in Jinja. minijinja drops one, as after other tags.
fn raw_block(block: &str, opens: usize) -> String {
    let (tag, rest) = block.split_at(opens);
    let keeps = rest.starts_with('\n') && !tag.ends_with("-%}") && !tag.ends_with("+%}");
    if keeps { format!("{tag}\n{rest}") } else { block.to_owned() }
}

/// A string in a tag, and an escape in a string. Compiled once, because a template can have
/// thousands of tags.
static STRINGS: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(&format!("(?s){STRING}")).expect("the constant pattern is valid"));
static ESCAPES: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?s)\\(?:([aNUv/\n]|u[dD][89a-fA-F]|[^\x00-\x7F])|.)")
        .expect("the constant pattern is valid")
});

/// Finds an escape in a tag's strings that Python interprets differently: `\a` and `\v`, named and
/// long character escapes, halves of characters, an escaped slash, line continuation or non-ASCII
/// character.
fn odd_escape(tag: &str) -> Option<String> {
    let mut all = STRINGS.find_iter(tag).flat_map(|string| ESCAPES.captures_iter(string.as_str()));
    all.find_map(|escape| escape.get(1)).map(|odd| format!("\\{}", odd.as_str().escape_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_become_blocks_with_their_white_space_marks() {
        let Prepared { source, has_tags, .. } =
            prepared("a {%- generation %}b{%+ endgeneration -%}\r\n\n");
        assert_eq!(
            source,
            "a {%- filter __generation %}{% with %}b{%+ endwith %}{% endfilter -%}\n"
        );
        assert!(has_tags);
    }

    #[test]
    fn blocks_that_store_or_filter_their_text_get_a_scope() {
        for (text, expected) in [
            ("{%- set a -%}b{% endset +%}", "{%- set a %}{% with -%}b{% endwith %}{% endset +%}"),
            (
                "{% set a|replace('%}', x=1) %}{%endset%}",
                "{% set a|replace('%}', x=1) %}{% with %}{% endwith %}{% endset %}",
            ),
            (
                "{% filter upper -%}{% endfilter %}",
                "{% filter upper %}{% with -%}{% endwith %}{% endfilter %}",
            ),
            (
                "{% set a = 1 %}{% set a, b = c %}{% set a=1|d %}",
                "{% set a = 1 %}{% set a, b = c %}{% set a=1|d %}",
            ),
            ("{% set ns.a = 1 %}{{ '{% set a %}' }}", "{% set ns.a = 1 %}{{ '{% set a %}' }}"),
        ] {
            assert_eq!(prepared(text).source, expected);
        }
    }

    #[test]
    fn the_first_line_end_of_a_raw_block_is_doubled_unless_it_is_cut_off() {
        for (text, expected) in [
            ("{% raw %}\n{{ x }}\n{% endraw %}\n.", "{% raw %}\n\n{{ x }}\n{% endraw %}\n."),
            ("{%- raw -%}\nx{% endraw %}", "{%- raw -%}\nx{% endraw %}"),
            ("{% raw %}x\n{% endraw %}", "{% raw %}x\n{% endraw %}"),
        ] {
            assert_eq!(prepared(text).source, expected);
        }
    }

    #[test]
    fn escapes_that_python_reads_otherwise_are_found_in_strings_of_tags_alone() {
        let odd = |text: &str| prepared(text).odd_escape;
        assert_eq!(
            odd(
                r"a\a {{ 'b\n\\a\x41' }}{% set x = 'c' %}\v{# '\a' #}{% raw %}{{ '\a' }}{% endraw %}"
            ),
            None
        );
        assert_eq!(odd(r"{{ 'b\a' }}").as_deref(), Some(r"\a"));
        assert_eq!(odd(r#"{% set x = "it's \/" %}"#).as_deref(), Some(r"\/"));
        assert_eq!(odd(r"{{ '\u00e9\ud7ff\udB80\udc00' }}").as_deref(), Some(r"\udB"));
        assert_eq!(odd(r"{{ '\é' }}").as_deref(), Some(r"\\u{e9}"));
    }

    #[test]
    fn what_only_looks_like_a_tag_is_left_alone() {
        for text in [
            "{# {% generation %} #}",
            "{% raw %}{% generation %}{% endraw %}",
            "{{ '{% generation %}' }}",
            "{% set x = \"{% generation %}\" %}",
        ] {
            let Prepared { source, has_tags, .. } = prepared(text);
            assert_eq!((source.as_str(), has_tags), (text, false));
        }
    }
}
