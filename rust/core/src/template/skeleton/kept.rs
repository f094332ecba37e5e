//! The skeletons of a template, by the sequences of the dialogues. If a template reads tools, most
//! rows of some datasets have a sequence of their own. So a skeleton for tools or calls is only made
//! once its sequence has come a few times, and their number is limited.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::sealed::Seals;
use super::slots::Key;
use super::{Skeleton, Wanted, with_texts};
use crate::dialogue::Script;
use crate::sample::Rendered;
use crate::template::jinja::Jinja;
use crate::template::{limits, usage};

/// A longer skeleton is not used.
const BYTES_MAX: usize = 256 << 10;
/// Of unusual sequences: how often one is rendered with Jinja first, because its skeleton costs
/// about as much, and the maximum number that is remembered, and bytes of their skeletons.
pub(super) const TIMES_FIRST: u8 = 3;
pub(super) const UNUSUAL_MAX: usize = 4_096;
pub(super) const UNUSUAL_BYTES_MAX: usize = 32 << 20;

/// The skeletons of a template.
#[derive(Debug, Default)]
pub(in crate::template) struct Skeletons {
    kept: RwLock<Kept>,
    /// Whether the template does more with tools or arguments than to write them as JSON.
    reads_tools: AtomicBool,
    reads_arguments: AtomicBool,
}

#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) by_key: HashMap<Key, Found>,
    /// Of unusual sequences, their number and the bytes of their skeletons.
    pub(super) unusual: usize,
    pub(super) bytes: usize,
}

/// The skeleton of a sequence, as far as it is known.
#[derive(Debug, Clone)]
pub(super) enum Found {
    /// An unusual sequence, with the number of its dialogues so far.
    Times(u8),
    /// There is none.
    Nothing,
    Made(Arc<Skeleton>),
}

impl Skeletons {
    /// Writes a dialogue into an empty `page`. Returns `false`, with the page unchanged, if the
    /// dialogue must be rendered with Jinja.
    pub(in crate::template) fn fill(
        &self,
        jinja: &Jinja,
        script: Script<'_>,
        wanted: Wanted,
        page: &mut Rendered,
    ) -> bool {
        let Some((key, slots)) = Key::of(script, wanted, self.seals()) else { return false };
        let Some(skeleton) = self.of(key, jinja, script) else { return false };
        let row_bytes = if key.unusual.is_some() { limits::row_bytes(script) } else { 0 };
        // The template itself needs less than half of the fuel.
        let fuel = limits::fuel(row_bytes) / 4;
        let Some(dumps) = skeleton.asked.dumped(&slots, fuel) else { return false };
        let slots = with_texts(&slots, &dumps);
        // A row over a limit is refused, however often its sequence has come.
        let is_allowed = || {
            let bytes = skeleton.bytes_with(&slots);
            // Renderings with marks are longer, and must be within the limit of the output, too.
            let has_room = dumps.is_empty() || bytes <= limits::output_max(row_bytes) / 4;
            key.unusual.is_none() || has_room && usage::check_work(script, bytes).is_ok()
        };
        let fits = skeleton.fits(script.turns, &slots) && is_allowed();
        if fits {
            skeleton.fill(&slots, page);
        }
        fits
    }

    fn seals(&self) -> Seals {
        let is_sealed = |reads: &AtomicBool| !reads.load(Ordering::Relaxed);
        Seals { tools: is_sealed(&self.reads_tools), arguments: is_sealed(&self.reads_arguments) }
    }

    fn of(&self, key: Key, jinja: &Jinja, script: Script<'_>) -> Option<Arc<Skeleton>> {
        let known =
            self.kept.read().unwrap_or_else(PoisonError::into_inner).by_key.get(&key).cloned();
        let is_due = match known {
            Some(Found::Made(skeleton)) => return Some(skeleton),
            Some(Found::Nothing) => return None,
            Some(Found::Times(times)) => times >= TIMES_FIRST,
            None => key.unusual.is_none(),
        };
        if !is_due {
            self.kept.write().unwrap_or_else(PoisonError::into_inner).count(key);
            return None;
        }
        let made = Skeleton::of_sequence(jinja, script, key.wanted, key.seals)
            .filter(|made| made.bytes() <= BYTES_MAX)
            .map(Arc::new);
        if made.is_none() && key.seals != Seals::default() {
            self.unseal(jinja, script, key);
        }
        self.kept.write().unwrap_or_else(PoisonError::into_inner).keep(key, made.clone());
        made
    }

    /// Finds out whether there is a skeleton if less is sealed.
    fn unseal(&self, jinja: &Jinja, script: Script<'_>, key: Key) {
        let is_made = |seals| Skeleton::of_sequence(jinja, script, key.wanted, seals).is_some();
        if !is_made(Seals::default()) {
            return;
        }
        let [tools, arguments] = [(true, false), (false, true)]
            .map(|(tools, arguments)| is_made(Seals { tools, arguments }));
        self.reads_tools.fetch_or(!tools || arguments, Ordering::Relaxed);
        self.reads_arguments.fetch_or(!arguments || tools, Ordering::Relaxed);
    }
}

impl Kept {
    /// Counts a dialogue of an unusual sequence.
    pub(super) fn count(&mut self, key: Key) {
        match self.by_key.get_mut(&key) {
            Some(Found::Times(times)) => *times = times.saturating_add(1),
            Some(Found::Nothing | Found::Made(_)) => {}
            None if self.unusual < UNUSUAL_MAX => {
                self.by_key.insert(key, Found::Times(1));
                self.unusual += 1;
            }
            None => {}
        }
    }

    /// Keeps a skeleton, unless another thread made it as well.
    pub(super) fn keep(&mut self, key: Key, made: Option<Arc<Skeleton>>) {
        if matches!(self.by_key.get(&key), Some(Found::Made(_))) {
            return;
        }
        let bytes = made.as_ref().filter(|_| key.unusual.is_some()).map_or(0, |made| made.bytes());
        let made = made.filter(|_| self.bytes + bytes <= UNUSUAL_BYTES_MAX);
        if made.is_some() {
            self.bytes += bytes;
        }
        self.by_key.insert(key, made.map_or(Found::Nothing, Found::Made));
    }
}
