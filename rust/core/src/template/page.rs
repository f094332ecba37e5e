//! Reuses buffers, because allocating memory for each row would take longer than writing it.

use std::ops::Deref;
use std::sync::{Mutex, PoisonError};

use crate::sample::Rendered;

/// A buffer with more capacity is not kept, so one long row does not hold memory forever.
const BYTES_MAX: usize = 1 << 20;

/// Unused buffers, at most as many as were ever in use at the same time.
#[derive(Debug, Default)]
pub(super) struct Pages(Mutex<Vec<Rendered>>);

impl Pages {
    /// A page that was written on before, or a new one.
    pub(super) fn blank(&self) -> Page<'_> {
        let mut rendered =
            self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        rendered.text.clear();
        rendered.trained.clear();
        rendered.answers.clear();
        Page { rendered, pages: Some(self) }
    }

    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// A [`Rendered`] whose memory is returned to its template for reuse.
#[derive(Debug)]
pub struct Page<'template> {
    pub(super) rendered: Rendered,
    pages: Option<&'template Pages>,
}

impl From<Rendered> for Page<'_> {
    /// A buffer that is not reused.
    fn from(rendered: Rendered) -> Self {
        Page { rendered, pages: None }
    }
}

impl Deref for Page<'_> {
    type Target = Rendered;

    fn deref(&self) -> &Rendered {
        &self.rendered
    }
}

impl Drop for Page<'_> {
    fn drop(&mut self) {
        if let Some(pages) = self.pages.filter(|_| self.rendered.text.capacity() <= BYTES_MAX) {
            pages
                .0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(std::mem::take(&mut self.rendered));
        }
    }
}
