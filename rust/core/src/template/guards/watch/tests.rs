//! The filters that watch a source are where a template looks into contents.

use minijinja::syntax::SyntaxConfig;

use crate::template::guards::{guarded, watched};

fn source(text: &str) -> Option<String> {
    Some(watched(text, SyntaxConfig::default())?.source)
}

#[test]
fn the_example_at_the_head_is_watched() {
    let text = "{{ m.content|trim if '<b>' in m.content or m.content == m.role }}";
    let expected = "{{ ((m.content)|__edges)|trim if '<b>' in ((m.content)|__holds('<b>')) \
        or ((m.content)|__blind) == ((m.role)|__blind) }}";
    assert_eq!(source(text).as_deref(), Some(expected));
}

#[test]
fn what_treats_all_contents_alike_is_not_watched() {
    for text in [
        "{{ a ~ b + c|default('x') }}{% set d = a if b is string and not c else [a, {'x': b}] %}",
        "{% if a.b['c'] is none or a == 1 %}{{ namespace(x=a).x }}{% endif %}",
        "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(b, c) }}{{ raise_exception(e) }}",
    ] {
        assert_eq!(source(text).as_deref(), Some(text));
    }
}

#[test]
fn everything_else_is() {
    for (text, expected) in [
        ("{{ a|upper }}", "{{ ((a)|__blind)|upper }}"),
        ("{{ a|length }}", "{{ ((a)|__whole)|length }}"),
        ("{{ a[b] }}", "{{ ((a)|__whole)[((b)|__blind)] }}"),
        ("{{ a[1:] }}", "{{ ((a)|__whole)[1:] }}"),
        ("{{ a < b == c }}", "{{ ((a)|__blind) < ((b)|__blind) == ((c)|__blind) }}"),
        ("{{ a is eq(b) }}", "{{ ((a)|__blind) is eq(((b)|__blind)) }}"),
        ("{{ {a: b} }}", "{{ {((a)|__blind): b} }}"),
        ("{{ a.strip('b') }}", "{{ ((a)|__blind).strip('b') }}"),
        ("{{ a.strip(' ') }}", "{{ ((a)|__edges).strip(' ') }}"),
        ("{{ a.startswith('b') }}", "{{ ((a)|__holds('b')).startswith('b') }}"),
        ("{{ f(a) }}", "{{ f(((a)|__blind)) }}"),
        ("{% set a, b = c %}", "{% set a, b = ((c)|__whole) %}"),
        ("{% for a, b in c %}{% endfor %}", "{% for a, b in ((c)|__blind) %}{% endfor %}"),
        ("{% for a in b %}{% endfor %}", "{% for a in ((b)|__whole) %}{% endfor %}"),
        (
            "{% for a, b in c.items() %}{% endfor %}",
            "{% for a, b in ((((c)|__whole).items())|__whole) %}{% endfor %}",
        ),
        ("{{ a|tojson }}", "{{ ((a)|__json)|tojson }}"),
        ("{{ a|tojson(indent=b) }}", "{{ ((a)|__json)|tojson(indent=((b)|__blind)) }}"),
        (
            "{{ a|tojson(sort_keys=1, ensure_ascii=1) }}",
            "{{ ((a)|__blind)|tojson(sort_keys=1, ensure_ascii=1) }}",
        ),
        ("{{ a|tojson(1) }}", "{{ ((a)|__blind)|tojson(1) }}"),
    ] {
        assert_eq!(source(text).as_deref(), Some(expected));
    }
}

#[test]
fn sources_with_unknown_blocks_or_functions_under_other_names_are_not_watched() {
    for text in [
        "{% set other = range %}",
        "{% macro m() %}{% endmacro %}{% set other = m %}",
        "{% filter upper %}{{ a }}{% endfilter %}",
        "{% autoescape true %}{{ a }}{% endautoescape %}",
    ] {
        assert_eq!(source(text), None, "{text}");
    }
}

#[test]
fn guarded_sources_are_watched() {
    let text = "{{ a ~ b[c] }}{% for d in e %}{{ d.items }}{% endfor %}";
    let guarded = guarded(text, SyntaxConfig::default()).expect("parses");
    let expected = "{{ ((a)|__text) ~ ((((((((b)|__read)|__whole)))\
        |__item(((((((c)|__blind))|__index)|__blind)))))|__text) }}\
        {% for d in ((((((e)|__whole))|__looped)|__whole)) %}\
        {{ (((d)|__whole)|__attribute('items')) }}{% endfor %}";
    assert_eq!(source(&guarded).as_deref(), Some(expected));
}
