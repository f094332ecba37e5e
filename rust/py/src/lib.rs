//! zephyr_fast._core: the engine's verbs as Python functions. Text and paths go in, JSON comes out;
//! no object of ours crosses.

mod border;

use std::path::PathBuf;

use pyo3::prelude::*;
use zephyr_core::dataset::product::Product;
use zephyr_core::encode;
use zephyr_core::error::Error;
use zephyr_core::pipeline::row::Walk;
use zephyr_core::pipeline::{self, explain, fit};
use zephyr_core::template::Template;
use zephyr_core::tokenize::Tokenizer;
use zephyr_core::{Job, RunOptions};

/// Does a whole run and returns its manifest as JSON.
#[pyfunction]
#[pyo3(signature = (command, recipe, recipe_name, overrides, inputs, tokenizer, out, *, threads=None, overwrite=false, strict=false, max_bad=None, max_memory=None, on_progress=None))]
#[expect(clippy::too_many_arguments, reason = "a verb's arguments are keywords in Python")]
fn run(
    py: Python<'_>,
    command: &str,
    recipe: &str,
    recipe_name: &str,
    overrides: Vec<(String, String)>,
    inputs: Vec<PathBuf>,
    tokenizer: Option<PathBuf>,
    out: PathBuf,
    threads: Option<usize>,
    overwrite: bool,
    strict: bool,
    max_bad: Option<u64>,
    max_memory: Option<u64>,
    on_progress: Option<Py<PyAny>>,
) -> PyResult<String> {
    let bad_rows_max = if strict { Some(0) } else { max_bad };
    let (command, recipe_text, recipe_name) =
        (command.to_owned(), recipe.to_owned(), recipe_name.to_owned());
    border::enter(py, on_progress, move |watch| {
        let recipe = fit::read(&recipe_text, &recipe_name, &overrides)?;
        let product = Product::of_command(&command)?;
        let options = RunOptions { threads, overwrite, memory_bytes_max: max_memory, bad_rows_max };
        let job = Job { product, recipe, recipe_name, inputs, tokenizer, out, options };
        zephyr_core::run(job, watch)?.print()
    })
}

/// The whole walk of one raw row, as JSON.
#[pyfunction(name = "explain")]
fn explain_row(
    py: Python<'_>,
    command: &str,
    recipe: &str,
    recipe_name: &str,
    overrides: Vec<(String, String)>,
    tokenizer: PathBuf,
    row: &[u8],
) -> PyResult<String> {
    let (command, recipe, recipe_name, row) =
        (command.to_owned(), recipe.to_owned(), recipe_name.to_owned(), row.to_owned());
    border::enter(py, None, move |_| {
        let recipe = fit::read(&recipe, &recipe_name, &overrides)?;
        let walk =
            Walk::new(Product::of_command(&command)?, recipe, Some(Tokenizer::load(&tokenizer)?))?;
        explain::explain(&walk, &row)
    })
}

/// What a template makes of dialogues (JSON: lists of messages), as JSON: text and trained ranges
/// in characters, or a reason.
#[pyfunction]
fn render(
    py: Python<'_>,
    tokenizer: PathBuf,
    template: &str,
    dialogues: &str,
    add_generation_prompt: bool,
) -> PyResult<String> {
    let (template, dialogues) = (template.to_owned(), dialogues.to_owned());
    border::enter(py, None, move |_| {
        explain::render(&Tokenizer::load(&tokenizer)?, &template, &dialogues, add_generation_prompt)
    })
}

/// The template a recipe asks for with all that it would be loaded with, as JSON, unless it is one
/// that the package ships.
#[pyfunction]
fn unknown_template(
    py: Python<'_>,
    recipe: &str,
    recipe_name: &str,
    overrides: Vec<(String, String)>,
    tokenizer: PathBuf,
) -> PyResult<Option<String>> {
    let (recipe, recipe_name) = (recipe.to_owned(), recipe_name.to_owned());
    border::enter(py, None, move |_| {
        encode::unknown_template(&fit::read(&recipe, &recipe_name, &overrides)?, &tokenizer)
    })
}

/// Loads a template that `unknown_template` gave, which renders its canaries.
#[pyfunction]
fn canary(py: Python<'_>, stranger: &str) -> PyResult<()> {
    let stranger = stranger.to_owned();
    border::enter(py, None, move |_| Template::canary(&stranger))
}

/// Samples of these lengths as windows of at most `seq_len` tokens: lists of sample numbers.
#[pyfunction]
fn pack(py: Python<'_>, lengths: Vec<u32>, seq_len: u32) -> PyResult<Vec<Vec<u32>>> {
    border::enter(py, None, move |_| {
        match lengths.iter().find(|length| **length > seq_len || **length == 0) {
            Some(length) => Err(Error::Recipe(format!(
                "a sample of {length} tokens does not go into a window of {seq_len}"
            ))),
            None => {
                Ok(zephyr_core::pack::pack(&lengths, seq_len).iter().map(<[u32]>::to_vec).collect())
            }
        }
    })
}

/// Reads a whole data set and says, as JSON, what is not as it was written.
#[pyfunction]
fn verify(py: Python<'_>, folder: PathBuf) -> PyResult<String> {
    border::enter(py, None, move |watch| {
        zephyr_core::dataset::verify::verify(&folder, watch)?.print()
    })
}

/// A recipe with every key, as TOML.
#[pyfunction]
fn resolve(
    py: Python<'_>,
    recipe: &str,
    recipe_name: &str,
    overrides: Vec<(String, String)>,
) -> PyResult<String> {
    let (recipe, recipe_name) = (recipe.to_owned(), recipe_name.to_owned());
    border::enter(py, None, move |_| fit::read(&recipe, &recipe_name, &overrides)?.print())
}

/// A list of names that the engine knows, by its kind.
#[pyfunction]
fn names(py: Python<'_>, kind: &str) -> PyResult<Vec<&'static str>> {
    let kind = kind.to_owned();
    border::enter(py, None, move |_| pipeline::names::names(&kind))
}

/// The engine of zephyr-fast.
#[pymodule]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    zephyr_core::panics::silence();
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_function(wrap_pyfunction!(run, module)?)?;
    module.add_function(wrap_pyfunction!(explain_row, module)?)?;
    module.add_function(wrap_pyfunction!(render, module)?)?;
    module.add_function(wrap_pyfunction!(unknown_template, module)?)?;
    module.add_function(wrap_pyfunction!(canary, module)?)?;
    module.add_function(wrap_pyfunction!(names, module)?)?;
    module.add_function(wrap_pyfunction!(pack, module)?)?;
    module.add_function(wrap_pyfunction!(resolve, module)?)?;
    module.add_function(wrap_pyfunction!(verify, module)?)?;
    border::add_errors(module)
}
