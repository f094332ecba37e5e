//! Checks the memory use of the process against `--max-memory`.

use std::fs;

use crate::error::{Error, Result};

/// Fails if the process uses more memory than allowed. `None` allows any amount.
pub fn check(bytes_max: Option<u64>) -> Result<()> {
    let Some(bytes_max) = bytes_max else { return Ok(()) };
    let Some(bytes) = resident_bytes() else {
        return Err(Error::Config(
            "`--max-memory` needs /proc/self/status, which this system does not have; remove the option".to_owned(),
        ));
    };
    if bytes > bytes_max {
        return Err(Error::MemoryLimit(format!(
            "the process uses {} MB of memory, more than `--max-memory` ({} MB); raise the limit, \
             use fewer `--threads`, or split the input",
            bytes / 1_000_000,
            bytes_max / 1_000_000
        )));
    }
    Ok(())
}

/// Returns the resident memory of this process, if the system reports it.
fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_process_holds_more_than_a_kilobyte_and_less_than_a_terabyte() {
        assert!(super::check(None).is_ok());
        if std::path::Path::new("/proc/self/status").exists() {
            assert!(super::check(Some(1 << 10)).is_err());
            assert!(super::check(Some(1 << 40)).is_ok());
        }
    }
}
