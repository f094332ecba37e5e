//! The memory that a process holds, against what a run was given.

use std::fs;

use crate::error::{Error, Result};

/// Fails once this process holds more than it was given; `None` is as much as there is.
pub fn check(bytes_max: Option<u64>) -> Result<()> {
    let Some(bytes_max) = bytes_max else { return Ok(()) };
    let Some(bytes) = resident_bytes() else {
        return Err(Error::Config(
            "`--max-memory` needs /proc/self/status, which is not there; leave it out".to_owned(),
        ));
    };
    if bytes > bytes_max {
        return Err(Error::Config(format!(
            "this process holds {} MB of memory, more than the {} MB of `--max-memory`; allow \
                more, or take fewer rows at once",
            bytes / 1_000_000,
            bytes_max / 1_000_000
        )));
    }
    Ok(())
}

/// What of this process's memory is resident.
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
