//! Limits on the steps, output bytes and depth of a template on one row. Both the templates and the
//! rows are untrusted input.
//!
//! Fuel pays for steps and for intermediate bytes (64 bytes per unit), so it also limits memory.
//! The output has a separate limit.

use std::io::{Error, Write};
use std::panic::panic_any;

use minijinja::Environment;
use serde_json::Value;

use super::guards;
use crate::dialogue::{Script, TemplateInputs, Turn};
use crate::error::NO_THREAD;

/// Maximum size of a template in bytes. The longest template in TRL has 20 KB.
pub(super) const TEMPLATE_BYTES_MAX: usize = 64 << 10;
/// Macros within macros at most.
const DEPTH_MAX: usize = 64;
/// Size of a row in bytes, plus 1 KiB per message, and the fuel it may use. A unit pays for a step
/// or for 64 bytes. Known templates take a few hundred steps per message and pass a row's bytes
/// through a handful of filters.
const FUEL: [(usize, u64); 4] =
    [(64 << 10, 200_000), (1 << 20, 2_000_000), (4 << 20, 8_000_000), (usize::MAX, 32_000_000)];
/// The index of the environment with half the least fuel. A template that renders short contents
/// with it does not run out of fuel on longer ones.
pub(super) const HALF: usize = FUEL.len();
/// Stack of the thread that compiles, in bytes. A chain of operators nests the compiler once for
/// each: 32,000 in the longest template.
const STACK_BYTES: usize = 64 << 20;

/// Adds a template with its guards, on a thread whose stack suffices for the longest chain of
/// operators. Adds it a second time with filters that watch it, if it can be watched. Returns whether
/// a block of the template removes white space around its text.
pub(super) fn add(
    environment: &mut Environment<'static>,
    [name, watched]: [&'static str; 2],
    source: &str,
) -> Result<bool, minijinja::Error> {
    let failed =
        |what: &str| minijinja::Error::new(minijinja::ErrorKind::SyntaxError, what.to_owned());
    std::thread::scope(|scope| {
        let compile = || {
            let syntax = environment.syntax().clone();
            let guarded = guards::guarded(source, syntax.clone())?;
            let of_watch = guards::watched(&guarded, syntax);
            environment.add_template_owned(name, guarded)?;
            let strips_blocks = of_watch.as_ref().is_some_and(|made| made.strips_blocks);
            // Without it, every dialogue is rendered with Jinja.
            let added = of_watch.map(|made| environment.add_template_owned(watched, made.source));
            Ok(strips_blocks && added.is_some_and(|added| added.is_ok()))
        };
        let thread =
            std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, compile);
        // As `std::thread::spawn` panics: this is not a fault of the template.
        let thread = thread.unwrap_or_else(|error| panic_any(format!("{NO_THREAD}: {error}")));
        thread.join().unwrap_or_else(|_| Err(failed("the template compiler crashed")))
    })
}

/// The same environment, once for each amount of fuel, and with half the least.
pub(super) fn by_fuel(mut environment: Environment<'static>) -> Vec<Environment<'static>> {
    environment.set_recursion_limit(DEPTH_MAX);
    let filled = |fuel: u64| {
        let mut environment = environment.clone();
        environment.set_fuel(Some(fuel));
        environment
    };
    FUEL.iter().map(|(_, fuel)| *fuel).chain([FUEL[0].1 / 2]).map(filled).collect()
}

/// The size of a row, which determines its limits.
pub(super) fn row_bytes(script: Script<'_>) -> usize {
    script.turns.iter().map(turn_bytes).sum::<usize>() + script.inputs.map_or(0, inputs_bytes)
}

fn turn_bytes(turn: &Turn) -> usize {
    let members = turn.extras.iter().flat_map(|extras| extras.members.values());
    turn.text.len() + turn.role.name().len() + 1024 + members.map(json_bytes).sum::<usize>()
}

fn inputs_bytes(inputs: &TemplateInputs) -> usize {
    inputs.tools.iter().chain(inputs.args.values()).map(json_bytes).sum()
}

/// The size of a value as JSON, nearly: enough for each value within to count.
fn json_bytes(value: &Value) -> usize {
    8 + match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 16,
        Value::String(text) => text.len(),
        Value::Array(values) => values.iter().map(json_bytes).sum(),
        Value::Object(members) => {
            members.iter().map(|(name, value)| name.len() + json_bytes(value)).sum()
        }
    }
}

/// The index of the environment for a row of this size.
pub(super) fn fuel_class(row_bytes: usize) -> usize {
    FUEL.iter().position(|(bytes_max, _)| row_bytes <= *bytes_max).unwrap_or(FUEL.len() - 1)
}

/// The fuel for a row of this size.
pub(super) fn fuel(row_bytes: usize) -> u64 {
    FUEL[fuel_class(row_bytes)].1
}

/// Maximum bytes of the output for a row of this size.
pub(super) fn output_max(row_bytes: usize) -> usize {
    4 * row_bytes + (64 << 10)
}

/// Text on its way out, with room for so many bytes and no more.
pub(super) struct Draft {
    text: Vec<u8>,
    bytes_max: usize,
}

impl Draft {
    /// An empty draft for a row of this size.
    pub(super) fn new(row_bytes: usize) -> Draft {
        Draft { text: Vec::with_capacity(row_bytes), bytes_max: output_max(row_bytes) }
    }

    /// Returns the output. minijinja writes only complete strings.
    pub(super) fn text(self) -> String {
        String::from_utf8(self.text).expect("minijinja writes whole strings only")
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.text.len() + bytes.len() > self.bytes_max {
            return Err(Error::other(format!("the output exceeds {} bytes", self.bytes_max)));
        }
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
