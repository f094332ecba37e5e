//! Python bindings (`zephyr_fast._core`): functions from text and paths to JSON.

mod border;

use std::path::PathBuf;

use pyo3::prelude::*;
use zephyr_core::dataset::product::Product;
use zephyr_core::pipeline::{self, encoded, explain, fit, row::RowPipeline};
use zephyr_core::template::Template;
use zephyr_core::tokenize::Tokenizer;
use zephyr_core::{Job, RunOptions, dataset, encode::unknown_template as unknown, pack, panics};

/// A recipe: its text, its name, and dotted keys to override, each with its value as TOML.
type Recipe = (String, String, Vec<(String, String)>);

/// Runs `prep` or `binarize` and returns the manifest as JSON.
#[pyfunction]
#[pyo3(signature = (
    command, recipe, inputs, tokenizer, out, *,
    threads=None, overwrite=false, strict=false, max_bad_rows=None, max_memory=None, on_progress=None
))]
#[expect(clippy::too_many_arguments, reason = "the arguments are keywords in Python")]
fn run(
    py: Python<'_>,
    command: String,
    recipe: Recipe,
    inputs: Vec<PathBuf>,
    tokenizer: Option<PathBuf>,
    out: PathBuf,
    threads: Option<usize>,
    overwrite: bool,
    strict: bool,
    max_bad_rows: Option<u64>,
    max_memory: Option<u64>,
    on_progress: Option<Py<PyAny>>,
) -> PyResult<String> {
    border::enter(py, on_progress, move |watch| {
        let (text, recipe_name, overrides) = recipe;
        let recipe = fit::read(&text, &recipe_name, &overrides)?;
        let product = Product::of_command(&command)?;
        let options = RunOptions { threads, overwrite, strict, max_memory, max_bad_rows };
        let job = Job { product, recipe, recipe_name, inputs, tokenizer, out, options };
        zephyr_core::run(job, watch)?.to_json()
    })
}

/// Explains each step's effect on a raw row, as JSON.
#[pyfunction(name = "explain")]
fn explain_row(
    py: Python<'_>,
    command: String,
    recipe: Recipe,
    tokenizer: Option<PathBuf>,
    row: Vec<u8>,
) -> PyResult<String> {
    border::enter(py, None, move |_| {
        let recipe = fit::read(&recipe.0, &recipe.1, &recipe.2)?;
        let tokenizer = tokenizer.as_deref().map(Tokenizer::load).transpose()?;
        let pipeline = RowPipeline::new(Product::of_command(&command)?, recipe, tokenizer)?;
        explain::explain(&pipeline, &row)
    })
}

/// Renders dialogues. Returns JSON: text and label ranges in characters, or a reason.
#[pyfunction]
fn render(py: Python<'_>, by: (PathBuf, String), rows: String, prompt: bool) -> PyResult<String> {
    border::enter(py, None, move |_| explain::render(&by.0, &by.1, &rows, prompt))
}

/// Encodes dialogues. Returns an Arrow stream with ids, labels and, if requested, text.
#[pyfunction]
fn encode(py: Python<'_>, by: encoded::With, rows: Vec<encoded::Row>) -> PyResult<Vec<u8>> {
    border::enter(py, None, move |watch| encoded::encode(&by, rows, watch))
}

/// Returns a template that is not bundled with all that loading it needs, as JSON, or `None`.
#[pyfunction]
fn unknown_template(
    py: Python<'_>,
    recipe: Recipe,
    tokenizer: PathBuf,
) -> PyResult<Option<String>> {
    border::enter(py, None, move |_| {
        unknown(&fit::read(&recipe.0, &recipe.1, &recipe.2)?, &tokenizer)
    })
}

/// Loads a template that `unknown_template` returned, which runs its trial renderings.
#[pyfunction]
fn canary(py: Python<'_>, stranger: String) -> PyResult<()> {
    border::enter(py, None, move |_| Template::canary(&stranger))
}

/// Packs samples of these lengths into sequences of up to `seq_len` tokens: lists of indices.
#[pyfunction(name = "pack")]
fn pack_lengths(py: Python<'_>, lengths: Vec<u32>, seq_len: u32) -> PyResult<Vec<Vec<u32>>> {
    border::enter(py, None, move |_| pack::windows(&lengths, seq_len))
}

/// Verifies a dataset against its manifest and returns the report as JSON.
#[pyfunction]
fn verify(py: Python<'_>, folder: PathBuf) -> PyResult<String> {
    border::enter(py, None, move |watch| dataset::verify::verify(&folder, watch)?.to_json())
}

/// Returns a recipe with every key as TOML, or, `as_run`, with the choices of its preset too.
#[pyfunction]
fn resolve(py: Python<'_>, recipe: Recipe, as_run: bool) -> PyResult<String> {
    border::enter(py, None, move |_| pipeline::show::toml(&recipe.0, &recipe.1, &recipe.2, as_run))
}

/// Returns a list of the names that a user may type or read, by kind.
#[pyfunction]
fn names(kind: &str) -> PyResult<Vec<&'static str>> {
    // Commands ask while they are imported, where nobody reports that a thread is refused.
    panics::caught(|| pipeline::names::names(kind)).map_err(|error| border::exception(&error))
}

/// Describes `reasons` (code, outcome, cause, remedy) or `errors` (class, exit code, meaning, remedy).
#[pyfunction]
fn describe(py: Python<'_>, kind: String) -> PyResult<Vec<pipeline::names::Description>> {
    border::enter(py, None, move |_| pipeline::names::describe(&kind))
}

/// The engine of zephyr-fast.
#[pymodule]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    panics::silence();
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    macro_rules! add {
        ($($verb:ident)*) => { $(module.add_function(wrap_pyfunction!($verb, module)?)?;)* };
    }
    add!(run explain_row render encode unknown_template canary names describe pack_lengths resolve verify);
    border::add_errors(module)
}
