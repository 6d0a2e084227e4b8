//! No input of a few kilobytes may make anything ask for much memory at once.
//!
//! In: every allocation of the process. Out: an abort, with a backtrace, at one that is larger than [`BYTES_MAX`].

use std::alloc::{GlobalAlloc, Layout, System};

/// The largest thing an input may ask for: a decompressed packet of 16 MiB, twice.
const BYTES_MAX: usize = 40 << 20;

struct Capped;

#[global_allocator]
static CAPPED: Capped = Capped;

#[cold]
fn refuse(bytes: usize) -> ! {
    eprintln!("==ERROR: an allocation of {bytes} bytes, at most {BYTES_MAX} are expected");
    eprintln!("{}", std::backtrace::Backtrace::force_capture());
    std::process::abort()
}

// SAFETY: every call is handed on to the system's allocator as it is; refusing ends the process.
unsafe impl GlobalAlloc for Capped {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() > BYTES_MAX {
            refuse(layout.size());
        }
        // SAFETY: the caller's promise is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is handed on.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if layout.size() > BYTES_MAX {
            refuse(layout.size());
        }
        // SAFETY: the caller's promise is handed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if size > BYTES_MAX {
            refuse(size);
        }
        // SAFETY: the caller's promise is handed on.
        unsafe { System.realloc(at, layout, size) }
    }
}
