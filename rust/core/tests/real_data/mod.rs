//! Locates real rows and tokenizers, which the project must not redistribute.

use std::path::{Path, PathBuf};

/// A path in the directory of real data, or `None` with a message if it is missing.
///
/// `ZEPHYR_FAST_DATA` sets that directory. The default is `shared/data` next to the project.
pub fn real_path(path: &str) -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let named = std::env::var_os("ZEPHYR_FAST_DATA").filter(|data| !data.is_empty());
    let data = named.map_or_else(beside, PathBuf::from);
    let found = data.join(path);
    if !found.exists() {
        println!(
            "skipped: no `{path}` in {}; set ZEPHYR_FAST_DATA to the directory that holds it",
            data.display()
        );
        return None;
    }
    Some(found)
}
