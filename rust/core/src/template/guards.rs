//! Guards round what minijinja takes otherwise than Python: the sides of `~`, places in brackets, methods that are named and not called,
//! lists that Python makes only while they are read. Each becomes a filter of this engine, written into the template's source before it is
//! compiled.

use minijinja::machinery::ast::{BinOp, BinOpKind, CallArg, CompareOpKind, Expr, Stmt};
use minijinja::machinery::{Span, parse};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Value, ValueKind};
use minijinja::{Environment, Error};

use super::python::{check_printable, differs};

/// What is joined by `~`, as text.
const TEXT: &str = "__text";
/// What stands in brackets behind a value.
const PLACE: &str = "__place";
/// A key that is called as a method of Python is.
const KEY: &str = "__key";

/// A list for minijinja, in Python a view, a range or an iterator: never empty, read once, without places, or equal to no list.
const WHOLE: &str = "__whole";

/// What makes such a list: filters, methods and a function.
const LAZY_FILTERS: [&str; 7] = ["items", "map", "reject", "rejectattr", "reverse", "select", "selectattr"];
const LAZY_METHODS: [&str; 3] = ["items", "keys", "values"];
const LAZY_FUNCTION: &str = "range";
/// Filters that read it once, from its start to its end, as loops and `in` do.
const READERS: [&str; 13] =
    ["count", "first", "items", "join", "last", "length", "list", "map", "reject", "rejectattr", "reverse", "select", "selectattr"];

/// Names that Jinja gives a meaning of its own.
const NAMES_OUT: [&str; 3] = ["kwargs", "self", "varargs"];

const OF_MAPS: [&str; 11] = ["clear", "copy", "fromkeys", "get", "items", "keys", "pop", "popitem", "setdefault", "update", "values"];
const OF_LISTS: [&str; 11] = ["append", "clear", "copy", "count", "extend", "index", "insert", "pop", "remove", "reverse", "sort"];
const OF_TEXTS: [&str; 47] = [
    "capitalize",
    "casefold",
    "center",
    "count",
    "encode",
    "endswith",
    "expandtabs",
    "find",
    "format",
    "format_map",
    "index",
    "isalnum",
    "isalpha",
    "isascii",
    "isdecimal",
    "isdigit",
    "isidentifier",
    "islower",
    "isnumeric",
    "isprintable",
    "isspace",
    "istitle",
    "isupper",
    "join",
    "ljust",
    "lower",
    "lstrip",
    "maketrans",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rfind",
    "rindex",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "swapcase",
    "title",
    "translate",
    "upper",
    "zfill",
];
const OF_NUMBERS: [&str; 13] = [
    "as_integer_ratio",
    "bit_count",
    "bit_length",
    "conjugate",
    "denominator",
    "from_bytes",
    "fromhex",
    "hex",
    "imag",
    "is_integer",
    "numerator",
    "real",
    "to_bytes",
];

/// Adds the filters that guarded sources call.
pub(super) fn add(environment: &mut Environment) {
    environment.add_filter(TEXT, |value: &Value| {
        check_printable(value)?;
        Ok::<_, Error>(if value.kind() == ValueKind::String { value.clone() } else { Value::from(value.to_string()) })
    });
    environment.add_filter(PLACE, |value: &Value| match value.kind() {
        ValueKind::Number if !value.is_integer() => Err(differs("a fraction as a place")),
        ValueKind::Bool => Err(differs("a bool as a place")),
        _ => Ok(value.clone()),
    });
    environment.add_filter(KEY, |value: &Value, name: &str| {
        let methods: &[&str] = match value.kind() {
            ValueKind::Map => &OF_MAPS,
            ValueKind::Seq | ValueKind::Iterable => &OF_LISTS,
            ValueKind::String => &OF_TEXTS,
            ValueKind::Number | ValueKind::Bool => &OF_NUMBERS,
            _ => &[],
        };
        if methods.contains(&name) { Err(differs(&format!("the method `{name}` without a call"))) } else { value.get_attr(name) }
    });
    environment.add_filter(WHOLE, |value: &Value| match value.kind() {
        ValueKind::String => Ok(value.clone()),
        _ => Err(differs("a view, a range or an iterator that is neither looped over nor sent through `list`")),
    });
}

/// The source with its guards; an error where it names what is not known here.
pub(super) fn guarded(source: &str, syntax: SyntaxConfig) -> Result<String, Error> {
    let mut guards = Guards { source, edits: Vec::new(), refused: None };
    guards.statement(&parse(source, "", syntax)?);
    if let Some(name) = guards.refused {
        return Err(differs(&format!("the name `{name}`")));
    }
    // Where two end at one place the inner one was met first.
    guards.edits.sort_by_key(|edit| edit.start);
    let (mut guarded, mut at) = (String::with_capacity(source.len()), 0);
    for edit in guards.edits {
        guarded.push_str(&source[at..edit.start]);
        guarded.push_str(&edit.text);
        at = edit.end;
    }
    Ok(guarded + &source[at..])
}

/// A text in the place of some bytes of the source, or of none.
struct Edit {
    start: usize,
    end: usize,
    text: String,
}

struct Guards<'source> {
    source: &'source str,
    edits: Vec<Edit>,
    refused: Option<String>,
}

impl Guards<'_> {
    fn edit(&mut self, start: usize, end: usize, text: &str) {
        self.edits.push(Edit { start, end, text: text.to_owned() });
    }

    /// Sends an expression's value through a filter.
    fn filter(&mut self, expression: &Expr, name: &str) {
        let (start, end) = (start(expression), end(expression));
        self.edit(start, start, "(");
        self.edit(end, end, &format!(")|{name}"));
    }

    fn place(&mut self, expression: &Expr) {
        self.expression(expression);
        if !matches!(expression, Expr::Const(constant) if constant.value.is_integer() || constant.value.as_str().is_some()) {
            self.filter(expression, PLACE);
        }
    }

    fn key(&mut self, of: &Expr, name: &str, end: usize) {
        let is_method = [&OF_MAPS[..], &OF_LISTS, &OF_TEXTS, &OF_NUMBERS].iter().any(|names| names.contains(&name));
        if !is_method || matches!(of, Expr::Var(variable) if variable.id == "loop") {
            return;
        }
        let dot = self.source[..end - name.len()].trim_end().len() - 1;
        self.edit(start(of), start(of), "(");
        self.edit(dot, end, &format!("|{KEY}('{name}'))"));
    }

    fn all<'tree>(&mut self, expressions: impl IntoIterator<Item = &'tree Expr<'tree>>) {
        expressions.into_iter().for_each(|expression| self.expression(expression));
    }

    fn arguments(&mut self, arguments: &[CallArg]) {
        for argument in arguments {
            match argument {
                CallArg::Pos(value) | CallArg::Kwarg(_, value) | CallArg::PosSplat(value) | CallArg::KwargSplat(value) => {
                    self.expression(value);
                }
            }
        }
    }

    fn expression(&mut self, expression: &Expr) {
        self.read(expression);
        if is_lazy(expression) {
            self.filter(expression, WHOLE);
        }
    }

    /// An expression of which a list is read once, from its start to its end.
    fn read(&mut self, expression: &Expr) {
        match expression {
            Expr::Var(variable) if NAMES_OUT.contains(&variable.id) => self.refused = Some(variable.id.to_owned()),
            Expr::Var(_) | Expr::Const(_) => {}
            Expr::Slice(slice) => {
                self.expression(&slice.expr);
                [&slice.start, &slice.stop, &slice.step].into_iter().flatten().for_each(|place| self.place(place));
            }
            Expr::UnaryOp(operation) => self.expression(&operation.expr),
            Expr::BinOp(operation) => self.operation(operation),
            Expr::Compare(comparison) => {
                self.expression(&comparison.expr);
                for operation in &comparison.ops {
                    self.sought(matches!(operation.op, CompareOpKind::In | CompareOpKind::NotIn), &operation.expr);
                }
            }
            Expr::IfExpr(choice) => {
                self.all([&choice.true_expr, &choice.test_expr]);
                self.all(&choice.false_expr);
            }
            Expr::Filter(filter) => {
                filter.expr.iter().for_each(|value| self.sought(READERS.contains(&filter.name), value));
                self.arguments(&filter.args);
            }
            Expr::Test(test) => {
                self.expression(&test.expr);
                self.arguments(&test.args);
            }
            Expr::GetAttr(lookup) => {
                self.expression(&lookup.expr);
                self.key(&lookup.expr, lookup.name, to(lookup.span()));
            }
            Expr::GetItem(lookup) => {
                self.expression(&lookup.expr);
                self.place(&lookup.subscript_expr);
            }
            Expr::Call(call) => self.call(&call.expr, &call.args),
            Expr::List(list) => self.all(&list.items),
            Expr::Tuple(tuple) => self.all(&tuple.items),
            Expr::Map(map) => map.keys.iter().zip(&map.values).for_each(|(key, value)| self.all([key, value])),
        }
    }

    fn sought(&mut self, is_reader: bool, expression: &Expr) {
        if is_reader { self.read(expression) } else { self.expression(expression) }
    }

    fn operation(&mut self, operation: &BinOp) {
        self.expression(&operation.left);
        self.sought(matches!(operation.op, BinOpKind::In), &operation.right);
        for side in [&operation.left, &operation.right] {
            let is_text = matches!(side, Expr::Const(constant) if constant.value.as_str().is_some())
                || matches!(side, Expr::BinOp(inner) if matches!(inner.op, BinOpKind::Concat));
            if matches!(operation.op, BinOpKind::Concat) && !is_text {
                self.filter(side, TEXT);
            }
        }
    }

    /// What is called may be a method.
    fn call(&mut self, callee: &Expr, arguments: &[CallArg]) {
        match callee {
            Expr::GetAttr(method) => self.expression(&method.expr),
            _ => self.expression(callee),
        }
        self.arguments(arguments);
    }

    fn statements(&mut self, statements: &[Stmt]) {
        statements.iter().for_each(|statement| self.statement(statement));
    }

    /// Targets of assignments are names, not values: they stay as they are.
    fn statement(&mut self, statement: &Stmt) {
        match statement {
            Stmt::Template(template) => self.statements(&template.children),
            Stmt::EmitExpr(emitted) => self.expression(&emitted.expr),
            Stmt::ForLoop(each) => {
                self.read(&each.iter);
                self.all(&each.filter_expr);
                self.statements(&each.body);
                self.statements(&each.else_body);
            }
            Stmt::IfCond(choice) => {
                self.expression(&choice.expr);
                self.statements(&choice.true_body);
                self.statements(&choice.false_body);
            }
            Stmt::WithBlock(with) => {
                self.all(with.assignments.iter().map(|(_, value)| value));
                self.statements(&with.body);
            }
            Stmt::Set(set) => self.expression(&set.expr),
            Stmt::SetBlock(set) => {
                self.all(&set.filter);
                self.statements(&set.body);
            }
            Stmt::AutoEscape(block) => self.statements(&block.body),
            Stmt::FilterBlock(block) => {
                self.expression(&block.filter);
                self.statements(&block.body);
            }
            Stmt::Block(block) => self.statements(&block.body),
            Stmt::Macro(macro_) => {
                self.all(&macro_.defaults);
                self.statements(&macro_.body);
            }
            Stmt::CallBlock(block) => {
                self.call(&block.call.expr, &block.call.args);
                self.all(&block.macro_decl.defaults);
                self.statements(&block.macro_decl.body);
            }
            Stmt::Do(done) => self.call(&done.call.expr, &done.call.args),
            Stmt::EmitRaw(_)
            | Stmt::Import(_)
            | Stmt::FromImport(_)
            | Stmt::Extends(_)
            | Stmt::Include(_)
            | Stmt::Continue(_)
            | Stmt::Break(_) => {}
        }
    }
}

/// Whether it gives what Python only makes while it is read.
fn is_lazy(expression: &Expr) -> bool {
    match expression {
        Expr::Filter(filter) => LAZY_FILTERS.contains(&filter.name) && filter.expr.is_some(),
        Expr::Call(call) => match &call.expr {
            Expr::GetAttr(method) => LAZY_METHODS.contains(&method.name),
            Expr::Var(function) => function.id == LAZY_FUNCTION,
            _ => false,
        },
        _ => false,
    }
}

/// Where an expression starts. A chain's span starts at its last link.
fn start(expression: &Expr) -> usize {
    let first = match expression {
        Expr::Slice(slice) => Some(&slice.expr),
        Expr::BinOp(operation) => Some(&operation.left),
        Expr::Compare(comparison) => Some(&comparison.expr),
        Expr::IfExpr(choice) => Some(&choice.true_expr),
        Expr::Filter(filter) => filter.expr.as_ref(),
        Expr::Test(test) => Some(&test.expr),
        Expr::UnaryOp(operation) => Some(&operation.expr),
        Expr::GetAttr(lookup) => Some(&lookup.expr),
        Expr::GetItem(lookup) => Some(&lookup.expr),
        Expr::Call(call) => Some(&call.expr),
        Expr::Var(_) | Expr::Const(_) | Expr::List(_) | Expr::Tuple(_) | Expr::Map(_) => None,
    };
    let own = expression.span().start_offset as usize;
    first.map_or(own, |first| own.min(start(first)))
}

fn end(expression: &Expr) -> usize {
    to(expression.span())
}

fn to(span: Span) -> usize {
    span.end_offset as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_get_their_guards_and_nothing_else() {
        for (source, expected) in [
            ("{{ a.b ~ 'c' ~ (d + 1) }} ~ {# a ~ b #}", "{{ (a.b)|__text ~ 'c' ~ ((d + 1)|__text) }} ~ {# a ~ b #}"),
            ("{% if m.x.items is defined %}{{ m.get() }}", "{% if (m.x|__key('items')) is defined %}{{ m.get() }}"),
            ("{{ (a.b).title.c }}", "{{ ((a.b)|__key('title')).c }}"),
            ("{{ loop.index ~ -a|trim }}", "{{ (loop.index)|__text ~ (-a|trim)|__text }}"),
            ("{{ a[1]['b'][i - 1][x:2] }}", "{{ a[1]['b'][(i - 1)|__place][(x)|__place:2] }}"),
            ("{% for a in b|map('c') %}{% endfor %}{{ a|map('b')|list }}", "{% for a in b|map('c') %}{% endfor %}{{ a|map('b')|list }}"),
            ("{{ a in b.keys() and a.keys() == b|reverse }}", "{{ a in b.keys() and (a.keys())|__whole == (b|reverse)|__whole }}"),
            ("{% set ns.count = [a ~ b[c ~ d]] %}", "{% set ns.count = [(a)|__text ~ (b[((c)|__text ~ (d)|__text)|__place])|__text] %}"),
        ] {
            let closed = format!("{source}{}", if source.contains("{% if") { "{% endif %}" } else { "" });
            let got = guarded(&closed, SyntaxConfig::default()).expect("parses");
            assert_eq!(got.trim_end_matches("{% endif %}"), expected);
        }
    }
}
