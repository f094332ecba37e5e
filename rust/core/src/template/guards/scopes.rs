//! Names that Jinja and minijinja look up in different scopes, and arguments of macros.
//!
//! - `{% with a = 1, b = a %}`: in Jinja, `b` gets the earlier `a`.
//! - `{% macro m(a, b=a) %}`: in Jinja, a default sees the arguments before it.
//! - `m(none_such)`: an undefined argument is not replaced by a default in Jinja.
//! - `{% for … %}…{% else %}{% set a = 1 %}{% endfor %}`: in Jinja, `a` ends with the loop.
//!
//! The first, second and last are refused. An argument for which there is a default must be defined.

use std::collections::BTreeMap;

use minijinja::machinery::ast::{CallArg, Expr, Macro, Stmt, WithBlock};

use super::forms::{argument_value, end, is_stored};
use super::tree::Guards;
use super::{FLAT, PASSED};

/// Functions that are not macros.
pub(super) const FUNCTIONS: [&str; 7] =
    ["caller", "cycler", "joiner", LOOP, "raise_exception", "range", "strftime_now"];
pub(super) const LOOP: &str = "loop";

/// The parameters of macros by the names of the macros, and whether each has a default.
pub(super) type Macros = BTreeMap<String, Vec<(String, bool)>>;

impl Guards<'_> {
    pub(super) fn with_block(&mut self, with: &WithBlock) {
        let mut before: Vec<&str> = Vec::new();
        for (target, value) in &with.assignments {
            let start = self.named(value);
            self.check_names(value, start, &before, "`with`");
            match target {
                Expr::Var(name) => before.push(name.id),
                _ if with.assignments.len() > 1 => {
                    self.refused = Some("a list of names in `with`".to_owned());
                }
                _ => {}
            }
        }
    }

    /// Guards the defaults of a macro.
    pub(super) fn defaults(&mut self, of: &Macro) {
        let names: Vec<&str> = of.args.iter().filter_map(name).collect();
        for default in &of.defaults {
            let start = self.named(default);
            self.check_names(default, start, &names, "a default of a macro");
        }
    }

    /// Refuses a value that reads one of these names.
    fn check_names(&mut self, value: &Expr, start: usize, names: &[&str], place: &str) {
        if matches!(value, Expr::Const(_)) {
            return;
        }
        let is_of_name = |letter: char| letter.is_alphanumeric() || letter == '_';
        let mut words = self.source[start..end(value)].split(|letter| !is_of_name(letter));
        if let Some(read) = words.find(|word| names.contains(word)) {
            self.refused = Some(format!("reading `{read}` in {place}"));
        }
    }

    /// Guards the arguments of a call.
    pub(super) fn passed(&mut self, callee: &Expr, arguments: &[CallArg]) {
        let are_optional = self.are_optional(callee, arguments);
        for (argument, is_optional) in arguments.iter().zip(are_optional) {
            let value = argument_value(argument);
            let outline = self.expression(value);
            self.filter_if(!is_stored(value), value, outline, FLAT);
            let is_defined =
                matches!(value, Expr::Const(_) | Expr::List(_) | Expr::Tuple(_) | Expr::Map(_));
            if is_optional && !is_defined {
                self.filter(value, outline, PASSED);
            }
        }
    }

    /// Whether there is a default for each argument of a call, or may be.
    fn are_optional(&self, callee: &Expr, arguments: &[CallArg]) -> Vec<bool> {
        let any = self.macros.values().flatten().any(|(_, has_default)| *has_default);
        let called = name(callee);
        let known = called.and_then(|called| self.macros.get(called));
        let of = |(index, argument): (usize, &CallArg)| match (known, argument) {
            _ if !any || called.is_some_and(|called| FUNCTIONS.contains(&called)) => false,
            (Some(parameters), CallArg::Pos(_)) => {
                parameters.get(index).is_some_and(|(_, has_default)| *has_default)
            }
            (Some(parameters), CallArg::Kwarg(name, _)) => {
                parameters.iter().any(|(known, has_default)| known == name && *has_default)
            }
            _ => true,
        };
        arguments.iter().enumerate().map(of).collect()
    }
}

fn name<'tree>(expression: &Expr<'tree>) -> Option<&'tree str> {
    match expression {
        Expr::Var(variable) => Some(variable.id),
        _ => None,
    }
}

/// Collects the macros of a template. Of macros with one name, a default of any counts.
pub(super) fn collect(statements: &[Stmt], found: &mut Macros) {
    for statement in statements {
        match statement {
            Stmt::Macro(of) => {
                let first = of.args.len() - of.defaults.len();
                let parameters = found.entry(of.name.to_owned()).or_default();
                for (index, argument) in of.args.iter().enumerate() {
                    let named = name(argument).unwrap_or_default().to_owned();
                    match parameters.get_mut(index) {
                        Some(known) if known.0 == named => known.1 |= index >= first,
                        Some(known) => *known = (named, true),
                        None => parameters.push((named, index >= first)),
                    }
                }
                collect(&of.body, found);
            }
            Stmt::CallBlock(block) => collect(&block.macro_decl.body, found),
            Stmt::ForLoop(each) => {
                collect(&each.body, found);
                collect(&each.else_body, found);
            }
            Stmt::IfCond(choice) => {
                collect(&choice.true_body, found);
                collect(&choice.false_body, found);
            }
            Stmt::WithBlock(with) => collect(&with.body, found),
            Stmt::SetBlock(set) => collect(&set.body, found),
            Stmt::FilterBlock(block) => collect(&block.body, found),
            Stmt::AutoEscape(block) => collect(&block.body, found),
            Stmt::Block(block) => collect(&block.body, found),
            _ => {}
        }
    }
}

/// Whether statements assign a name in their own scope.
pub(super) fn assigns(statements: &[Stmt]) -> bool {
    statements.iter().any(|statement| match statement {
        Stmt::Set(set) => !matches!(set.target, Expr::GetAttr(_)),
        Stmt::SetBlock(_) | Stmt::Macro(_) => true,
        Stmt::IfCond(choice) => assigns(&choice.true_body) || assigns(&choice.false_body),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use minijinja::syntax::SyntaxConfig;

    use super::super::guarded;

    #[test]
    fn names_that_would_be_looked_up_elsewhere_are_refused() {
        for (source, is_refused) in [
            ("{% with a = 1, b = 2 %}{% endwith %}", false),
            ("{% with a = 1, b = x.a1 %}{% endwith %}", false),
            ("{% with a = 1, b = (x.y)[a] %}{% endwith %}", true),
            ("{% with a = a %}{% endwith %}", false),
            ("{% macro m(a, b=a.x) %}{% endmacro %}", true),
            ("{% macro m(a, b=c) %}{% endmacro %}", false),
            ("{% macro m(a, b='a') %}{% endmacro %}", false),
            ("{% for a in b %}{% else %}{% if c %}{% set d = 1 %}{% endif %}{% endfor %}", true),
            ("{% for a in b %}{% set d = 1 %}{% else %}{{ d }}{% endfor %}", false),
            ("{% call(a='b') m() %}{% endcall %}", true),
        ] {
            let result = guarded(source, SyntaxConfig::default());
            assert_eq!(result.is_err(), is_refused, "{source}");
        }
    }

    #[test]
    fn an_argument_with_a_default_must_be_defined() {
        let template =
            |call: &str| format!("{{% macro m(a, b=1) %}}{{% endmacro %}}{{{{ {call} }}}}");
        for (call, expected) in [
            ("m(x)", "m(x)"),
            ("m(x, y)", "m(x, ((y)|__passed))"),
            ("m(b=y, a=x)", "m(b=((y)|__passed), a=x)"),
            ("m(x, 2)", "m(x, 2)"),
            ("other(x)", "other(((x)|__passed))"),
            ("range(x)", "range(x)"),
        ] {
            let guarded = guarded(&template(call), SyntaxConfig::default()).expect("parses");
            assert!(guarded.contains(expected), "{guarded}");
        }
    }
}
