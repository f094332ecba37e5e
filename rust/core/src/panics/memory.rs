//! The allocator: if the system refuses memory, the process ends with one line and the exit code of
//! `MemoryLimitError`. Without it, the process would abort.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::error::Error;

struct Refusals;

#[global_allocator]
static REFUSALS: Refusals = Refusals;

/// Whether the process is about to end.
static ENDS: AtomicBool = AtomicBool::new(false);

// SAFETY: the system's allocator does all of the work.
#[expect(unsafe_code, reason = "the trait of allocators is unsafe")]
unsafe impl GlobalAlloc for Refusals {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are those that the system's allocator needs.
        granted(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        granted(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        granted(unsafe { System.realloc(memory, layout, size) }, size)
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[inline]
fn granted(memory: *mut u8, bytes: usize) -> *mut u8 {
    if memory.is_null() {
        end(bytes);
    }
    memory
}

/// Lets all threads allocate from one arena if the process has a limit of its address space. glibc
/// reserves 64 MiB of it for each arena, and aborts if a new thread then has no room for its
/// thread-local data.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "the standard library has no settings of the allocator")]
pub(super) fn share_arena() {
    let mut limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the limit is a valid place to write to, and `mallopt` takes any numbers.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_AS, &raw mut limit) == 0
            && limit.rlim_cur != libc::RLIM_INFINITY
        {
            libc::mallopt(libc::M_ARENA_MAX, 1);
        }
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(super) fn share_arena() {}

/// Ends the process without a destructor or an exit handler, since these may need memory, too.
#[cold]
#[expect(unsafe_code, reason = "the standard library has no exit without handlers")]
fn end(bytes: usize) -> ! {
    // Other threads are refused memory, too. One line is enough.
    while ENDS.swap(true, Ordering::Relaxed) {
        std::thread::sleep(Duration::from_secs(1));
    }
    // Neither allocates: standard error is not buffered, and the text is written in parts.
    _ = writeln!(
        std::io::stderr(),
        "error: out of memory: the system refused {bytes} bytes; use fewer `--threads`, split \
         the input, or raise the limit"
    );
    // SAFETY: it has no preconditions.
    unsafe { libc::_exit(Error::MemoryLimit(String::new()).exit_code().into()) }
}
