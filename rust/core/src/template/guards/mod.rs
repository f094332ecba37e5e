//! Adds guards around operations that minijinja evaluates differently from Python: the operands of
//! `~`, indices in brackets, methods that are named but not called, and lists that Python makes
//! lazily. Each guard is a filter defined here, which is inserted into the template's source before
//! it is compiled.
//!
//! An example (`the_example_at_the_head_gets_one_guard`): both sides of `~` become text, and Python
//! prints some numbers differently. A string literal needs no guard.
//!
//! ```text
//! source    {{ 'score: ' ~ m.score }}
//! edits     `((` at byte 15, before `m.score`, and `)|__text)` at byte 22, after it
//! guarded   {{ 'score: ' ~ ((m.score)|__text) }}
//!
//! m.score   unguarded                      guarded
//! 0.5       score: 0.5                     score: 0.5
//! 1e16      score: 10000000000000000.0     an error, since Python would write 1e+16
//! ```

mod folding;
mod forms;
mod lookups;
mod operators;
mod outline;
mod scopes;
mod tree;
pub(super) mod watch;
mod weight;

use minijinja::machinery::parse;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State};

use self::tree::{Edit, Guards};
use self::watch::Watch;
use super::markup::{plus, unmarked};
use super::python::{check_loop, check_printable, differs, is_namespace};
use super::strings::percent;

/// Converts an operand of `~` to text.
const TEXT: &str = "__text";
/// Jinja's filter for text that must not be escaped. In Python, such text escapes whatever it is
/// added to, and it stays marked when it is sliced or changed in case. Other operations on it are
/// therefore rejected.
const SAFE: &str = "safe";
/// Jinja's filter that escapes text for HTML and marks it.
const ESCAPE: &str = "escape";
const PLAIN: &str = "__plain";
/// Filters that treat such text as Python does.
const TAKE_SAFE: [&str; 11] = [
    "count", "d", "default", ESCAPE, "join", "length", "replace", SAFE, "string", "tojson", "trim",
];
/// Guards an argument of a macro with a default.
const PASSED: &str = "__passed";
/// An index in brackets, and a path of keys, that may name a method.
const ITEM: &str = "__item";
const PATHS: &str = "__paths";
/// The operator `+` in templates that mark text.
const PLUS: &str = "__plus";
/// The operator `%` after a text.
const PERCENT: &str = "__percent";
/// Guards the operands of `<`, `<=`, `>` and `>=`. Slices and concatenated lists have no order like
/// that of lists.
const ORDERED: &str = "__ordered";
/// Guards a value that is looped over.
const LOOPED: &str = "__looped";
/// Guards an index in brackets.
const INDEX: &str = "__index";
/// A key with the name of a method of Python.
const ATTRIBUTE: &str = "__attribute";

/// Guards values that are stored in a list, a map or a namespace, or assigned to a name.
const HELD: &str = "__held";
const FLAT: &str = "__flat";
/// Guards values that are compared with a value that is not plain, or searched for in a container.
const PAID: &str = "__paid";
/// Guards a text that is indexed or sliced. It does nothing itself, but minijinja charges each
/// filter for the text that it is passed.
const READ: &str = "__read";

/// Guards a value that is a list in minijinja, but a view, range or iterator in Python. There it is
/// never empty, can be read only once, has no indices, or equals no list.
const MATERIALIZED: &str = "__materialized";

/// The filters, methods and function that return such lists.
const LAZY_FILTERS: [&str; 10] = [
    "batch",
    "items",
    "map",
    "reject",
    "rejectattr",
    "reverse",
    "select",
    "selectattr",
    "slice",
    "unique",
];
const LAZY_METHODS: [&str; 3] = ["items", "keys", "values"];
const LAZY_FUNCTION: &str = "range";
/// Filters that read it once, from its start to its end, as loops and `in` do.
const READERS: [&str; 20] = [
    "batch",
    "count",
    "first",
    "items",
    "join",
    "last",
    "length",
    "list",
    "map",
    "max",
    "min",
    "reject",
    "rejectattr",
    "reverse",
    "select",
    "selectattr",
    "slice",
    "sort",
    "sum",
    "unique",
];

/// Names with a special meaning in Jinja, or here.
const NAMES_OUT: [&str; 5] = ["__close", "__open", "kwargs", "self", "varargs"];

/// Methods and attributes of Python's types.
const OF_MAPS: &str = "clear copy fromkeys get items keys pop popitem setdefault update values";
const OF_LISTS: &str = "append clear copy count extend index insert pop remove reverse sort";
const OF_TEXTS: &str = "capitalize casefold center count encode endswith expandtabs find format \
    format_map index isalnum isalpha isascii isdecimal isdigit isidentifier islower isnumeric \
    isprintable isspace istitle isupper join ljust lower lstrip maketrans partition removeprefix \
    removesuffix replace rfind rindex rjust rpartition rsplit rstrip split splitlines startswith \
    strip swapcase title translate upper zfill";
const OF_NUMBERS: &str = "as_integer_ratio bit_count bit_length conjugate denominator from_bytes \
    fromhex hex imag is_integer numerator real to_bytes";

fn has(names: &str, name: &str) -> bool {
    names.split(' ').any(|one| one == name)
}

/// Whether any type has a method or attribute of this name in Python.
fn names_method(name: &str) -> bool {
    [OF_MAPS, OF_LISTS, OF_TEXTS, OF_NUMBERS].iter().any(|methods| has(methods, name))
}

/// Whether a value's type has a method or attribute of this name in Python.
pub(super) fn is_method(value: &Value, name: &str) -> bool {
    let methods = match value.kind() {
        ValueKind::Map if !is_namespace(value) => OF_MAPS,
        ValueKind::Seq | ValueKind::Iterable => OF_LISTS,
        ValueKind::String => OF_TEXTS,
        ValueKind::Number | ValueKind::Bool => OF_NUMBERS,
        _ => "",
    };
    has(methods, name)
}

/// Adds the filters that guarded sources call.
pub(super) fn add(environment: &mut Environment) {
    // Joined text is not marked as safe in Python.
    environment.add_filter(TEXT, |value: &Value| text(value).map(|text| unmarked(&text)));
    environment.add_filter(PLUS, plus);
    environment.add_filter(PERCENT, percent);
    environment.add_filter(PASSED, |value: &Value| {
        if value.is_undefined() {
            Err(differs("an undefined argument of a macro with a default"))
        } else {
            Ok(value.clone())
        }
    });
    environment.add_filter(ITEM, lookups::item);
    environment.add_filter(PATHS, lookups::paths);
    environment.add_filter(SAFE, |value: &Value| {
        text(value).map(|text| Value::from_safe_string(text.to_string()))
    });
    environment.add_filter(PLAIN, |value: &Value| {
        if value.is_safe() {
            Err(differs("an operation on a string marked as safe"))
        } else {
            Ok(value.clone())
        }
    });
    environment.add_filter(HELD, weight::held);
    environment.add_filter(FLAT, weight::flat);
    environment.add_filter(PAID, weight::paid);
    environment.add_filter(READ, |value: &Value| value.clone());
    environment.add_filter(INDEX, |state: &State, value: &Value| match value.kind() {
        ValueKind::Number if !value.is_integer() => Err(differs("a non-integer index")),
        ValueKind::Bool => Err(differs("a boolean index")),
        _ => weight::paid(state, value),
    });
    environment.add_filter(LOOPED, |state: &State, value: &Value| {
        check_loop(value)?;
        // A loop over a text knows its length in Python.
        let Some(text) = value.as_str() else { return Ok(value.clone()) };
        state.consume_fuel(text.len() as u64)?;
        Ok::<_, Error>(text.chars().map(Value::from).collect())
    });
    environment.add_filter(ORDERED, |value: &Value| match value.kind() {
        ValueKind::Iterable => Err(differs("comparing slices or concatenated lists")),
        _ => Ok(value.clone()),
    });
    environment.add_filter(ATTRIBUTE, |value: &Value, name: &str| {
        if is_method(value, name) {
            Err(differs(&format!("using the method `{name}` without calling it")))
        } else {
            value.get_attr(name)
        }
    });
    environment.add_filter(MATERIALIZED, |value: &Value| match value.kind() {
        ValueKind::String => Ok(value.clone()),
        _ => Err(differs(
            "a view, range or iterator used as a value (loop over it, or convert it with `list`)",
        )),
    });
}

/// Converts a value to text if Python would print the same.
pub(super) fn text(value: &Value) -> Result<Value, Error> {
    check_printable(value)?;
    Ok(if value.kind() == ValueKind::String {
        value.clone()
    } else {
        Value::from(value.to_string())
    })
}

/// Returns the source with its guards, or an error if the source uses an unsupported feature.
pub(super) fn guarded(source: &str, syntax: SyntaxConfig) -> Result<String, Error> {
    let mut guards = Guards::new(source);
    guards.statement(&parse(source, "", syntax)?);
    if let Some(what) = guards.refused {
        return Err(differs(&what));
    }
    if guards.folding.is_exceeded() {
        let long = "an expression has too many operators; assign parts of it with `set`";
        return Err(Error::new(ErrorKind::SyntaxError, long));
    }
    Ok(edited(source, guards.edits))
}

/// A source that is watched, which [`watch`] explains.
pub(super) struct Watched {
    pub(super) source: String,
    /// Whether a block removes white space around its text.
    pub(super) strips_blocks: bool,
}

/// Watches a source that has its guards. Returns `None` if it has something that cannot be watched.
pub(super) fn watched(guarded: &str, syntax: SyntaxConfig) -> Option<Watched> {
    let mut watch = Watch::new(guarded);
    watch.statement(&parse(guarded, "", syntax).ok()?);
    (!watch.is_refused).then(|| Watched {
        source: edited(guarded, watch.edits),
        strips_blocks: watch.strips_blocks,
    })
}

/// A source with all edits made.
fn edited(source: &str, mut edits: Vec<Edit>) -> String {
    edits.sort_by_key(|edit| edit.start);
    let (mut edited, mut at) = (String::with_capacity(source.len()), 0);
    for edit in edits {
        edited.push_str(&source[at..edit.start]);
        edited.push_str(&edit.text);
        at = edit.end;
    }
    edited + &source[at..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_get_their_guards_and_nothing_else() {
        for (source, expected) in [
            (
                "{{ a.b ~ 'c' ~ (d + 1) }} ~ {# a ~ b #}",
                "{{ ((a.b)|__text) ~ 'c' ~ (((d + 1)|__text)) }} ~ {# a ~ b #}",
            ),
            (
                "{% if m.x.items is defined %}{{ m.get() }}",
                "{% if (m.x|__attribute('items')) is defined %}{{ m.get() }}",
            ),
            ("{{ (a.b).title.c }}", "{{ ((a.b)|__attribute('title')).c }}"),
            ("{{ loop.index ~ -a|trim }}", "{{ ((loop.index)|__text) ~ ((-a|trim)|__text) }}"),
            (
                "{{ a[1]['b'][i - 1][x:2] }}",
                "{{ ((((((((a)|__read)[1]['b'])|__read))|__item(((i - 1)|__index))))|__read)[((x)|__index):2] }}",
            ),
            (
                "{% for a in b|map('c') %}{% endfor %}{{ a|map('b')|list }}",
                "{% for a in b|map('c') %}{% endfor %}{{ a|map('b')|list }}",
            ),
            ("{% for a in b %}{% endfor %}", "{% for a in ((b)|__looped) %}{% endfor %}"),
            (
                "{{ (a.keys() if b else range(2))|list }}",
                "{{ (a.keys() if b else range(2))|list }}",
            ),
            ("{{ a.keys() if b else [] }}", "{{ ((a.keys())|__materialized) if b else [] }}"),
            (
                "{{ 'a' in b.keys() and a.keys()[0] == 1 and b|reverse == 'x' }}",
                "{{ 'a' in b.keys() and ((((a.keys())|__materialized))|__read)[0] == 1 and ((b|reverse)|__materialized) == 'x' }}",
            ),
            (
                "{{ 0 < a == 1 <= c != 2 }}",
                "{{ 0 < ((a)|__ordered) == 1 <= ((c)|__ordered) != 2 }}",
            ),
            (
                "{{ a == b or a.b in c or a is eq(b) }}",
                "{{ ((a)|__paid) == ((b)|__paid) or ((a.b)|__paid) in ((c)|__paid) or ((a)|__paid) is eq(((b)|__paid)) }}",
            ),
            (
                "{{ a == 'x' or 'x' in c or a is eq(1) or a|length == b|length }}",
                "{{ a == 'x' or 'x' in c or a is eq(1) or a|length == b|length }}",
            ),
            (
                "{% set ns.count = [a ~ b['c' ~ d], {'e': f}] %}",
                "{% set ns.count = (([((a)|__text) ~ ((((((b)|__read))|__item((('c' ~ ((d)|__text))|__index))))|__text), {'e': ((f)|__held)}])|__held) %}",
            ),
            (
                "{% set a = b if c else d %}{% set e = (f) if g else 1 %}",
                "{% set a = ((b if c else d)|__flat) %}{% set e = (((f) if g else 1)|__flat) %}",
            ),
            (
                "{% set ns.a = b, (c == d) ~ 'e' %}",
                "{% set ns.a = ((((b)|__held), (((((c)|__paid) == ((d)|__paid))|__text)) ~ 'e')|__held) %}",
            ),
            (
                "{% set a = b[1:] or c %}{{ namespace(d=e, f=1) }}",
                "{% set a = ((((b)|__read)[1:] or c)|__flat) %}{{ namespace(d=((e)|__held), f=1) }}",
            ),
            (
                "{{ a.get(b) }}{{ ','.join(c) }}{{ d.split('x') }}",
                "{{ ((a)|__paid).get(((b)|__paid)) }}{{ ','.join(((c)|__paid)) }}{{ d.split('x') }}",
            ),
            (
                "{{ a|select('eq', b)|list }}{{ c|dictsort }}",
                "{{ ((a)|__paid)|select('eq', ((b)|__paid))|list }}{{ ((c)|__paid)|dictsort }}",
            ),
        ] {
            let closed =
                format!("{source}{}", if source.contains("{% if") { "{% endif %}" } else { "" });
            let got = guarded(&closed, SyntaxConfig::default()).expect("parses");
            assert_eq!(got.trim_end_matches("{% endif %}"), expected);
        }
    }

    #[test]
    fn the_example_at_the_head_gets_one_guard() {
        let source = "{{ 'score: ' ~ m.score }}";
        let mut guards = Guards::new(source);
        guards.statement(&parse(source, "", SyntaxConfig::default()).expect("parses"));
        let edits = guards.edits.iter().map(|edit| (edit.start, edit.end, edit.text.as_str()));
        assert_eq!(edits.collect::<Vec<_>>(), [(15, 15, "(("), (22, 22, ")|__text)")]);
        let guarded = guarded(source, SyntaxConfig::default()).expect("parses");
        assert_eq!(guarded, "{{ 'score: ' ~ ((m.score)|__text) }}");

        let mut environment = Environment::new();
        add(&mut environment);
        let render = |source: &str, score: f64| {
            let m = minijinja::context! { score => score };
            environment.render_str(source, minijinja::context! { m => m })
        };
        assert_eq!(render(source, 0.5).expect("renders"), "score: 0.5");
        assert_eq!(render(&guarded, 0.5).expect("renders"), "score: 0.5");
        assert_eq!(render(source, 1e16).expect("renders"), "score: 10000000000000000.0");
        let error = render(&guarded, 1e16).expect_err("is refused").to_string();
        assert!(error.contains("the output could differ from Python's"), "{error}");
    }
}
