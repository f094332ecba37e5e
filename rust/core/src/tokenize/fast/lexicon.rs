//! A word (a segment that no merge leaves) as tokens: from the cache, or spelled out and merged.

use std::ops::Range;

use hashbrown::HashMap;

use super::batch::{Batch, Ends};
use super::cache::{Cache, Known};
use super::merges::{Merges, Symbols};
use super::vocabulary::WholeWords;
use crate::tokenize::encode::Sink;

/// No token.
pub(super) const MISSING: u32 = u32::MAX;
/// After longer words, buffers are freed, so one huge text does not hold memory forever.
const KEPT_SYMBOLS: usize = 1 << 16;

/// How characters become the first symbols, and how symbols merge.
pub(super) struct Lexicon {
    /// The merges.
    pub merges: Merges,
    /// The first symbols.
    pub spelling: Spelling,
}

/// How a word is spelled by its initial symbols.
pub(super) enum Spelling {
    /// As bytes, with [`MISSING`] for bytes that the vocabulary lacks. With `whole`, a word that is
    /// a token becomes that token, regardless of merges.
    Bytes {
        /// The token of each byte.
        ids: Box<[u32; 256]>,
        /// All tokens as bytes, if the tokenizer sets `ignore_merges`.
        whole: Option<WholeWords>,
    },
    /// As characters if the vocabulary contains them, else as the bytes of the character. A space
    /// is spelled `▁`.
    Characters {
        /// The token of each ASCII character.
        ascii: Box<[u32; 128]>,
        /// The tokens of the other characters.
        others: HashMap<char, u32>,
        /// The token of each byte.
        bytes: Box<[u32; 256]>,
    },
}

/// State that one thread needs to encode text: caches and buffers, about 21 MiB at most while idle.
pub(super) struct Scratch {
    cache: Cache,
    symbols: Symbols,
    batches: [Box<Batch>; 2],
    /// Buffer for a word that differs from the text.
    pub word: Vec<u8>,
}

impl Scratch {
    /// Empty caches and buffers.
    pub(super) fn new() -> Scratch {
        Scratch {
            cache: Cache::new(),
            symbols: Symbols::default(),
            batches: Default::default(),
            word: Vec::new(),
        }
    }

    /// Frees memory that only a huge word needed.
    pub(super) fn trim(&mut self) {
        if self.symbols.ids.capacity() > KEPT_SYMBOLS {
            self.symbols = Symbols::default();
        }
        if self.word.capacity() > KEPT_SYMBOLS {
            self.word = Vec::new();
        }
    }
}

impl Lexicon {
    /// Outputs the tokens of a part of a text. `fill` writes where the next words end, up to the
    /// end of the part, and returns how many it wrote.
    ///
    /// While memory fetches the cache entries of one batch, the words of the next batch are
    /// searched.
    pub(super) fn encode<S: Sink>(
        &self,
        text: &[u8],
        range: Range<usize>,
        mut fill: impl FnMut(&mut Ends) -> usize,
        scratch: &mut Scratch,
        sink: &mut S,
    ) {
        let Scratch { cache, symbols, batches: [next, last], .. } = scratch;
        let mut at = range.start;
        last.clear();
        while at < range.end {
            at = next.fill(at, &mut fill);
            next.look_up(text, cache);
            self.pass_on(text, last, cache, symbols, sink);
            std::mem::swap(next, last);
        }
        self.pass_on(text, last, cache, symbols, sink);
    }

    fn pass_on<S: Sink>(
        &self,
        text: &[u8],
        batch: &mut Batch,
        cache: &mut Cache,
        symbols: &mut Symbols,
        sink: &mut S,
    ) {
        batch.look_behind(cache);
        batch.pass_on(sink, |found, range, sink| {
            let start = range.start;
            self.encode_unknown(&text[range], found, start, (cache, symbols), sink);
        });
    }

    #[inline(never)]
    fn encode_unknown<S: Sink>(
        &self,
        word: &[u8],
        found: Known,
        start: usize,
        (cache, symbols): (&mut Cache, &mut Symbols),
        sink: &mut S,
    ) {
        if cache.emit_long(word, found, start, sink) {
            return;
        }
        symbols.clear();
        if !self.spelling.spell(word, symbols) {
            return self.encode_incomplete(word, start, symbols, sink);
        }
        self.merges.apply(symbols, self.spelling.letters(word));
        cache.insert(word, symbols);
        let mut from = start;
        for (id, len) in symbols.ids.iter().zip(&symbols.lens) {
            let end = from + *len as usize;
            sink.push(*id, from, end);
            from = end;
        }
    }

    /// Encodes a word with a byte that the vocabulary lacks. `tokenizers` drops that byte and
    /// shifts the following tokens of the word to the left in its byte alphabet, where a byte takes
    /// one or two positions. The spans are therefore the positions after the shift.
    fn encode_incomplete<S: Sink>(
        &self,
        word: &[u8],
        start: usize,
        symbols: &mut Symbols,
        sink: &mut S,
    ) {
        let Spelling::Bytes { ids, .. } = &self.spelling else { return };
        symbols.clear();
        let mut positions = Vec::new();
        for chunk in characters(word).char_indices() {
            let (first, character) = chunk;
            let last = first + character.len_utf8();
            for byte in &word[first..last] {
                let len = 1 + u32::from(!byte.is_ascii_graphic());
                positions.extend((0..len).map(|_| (start + first, start + last)));
                if ids[usize::from(*byte)] != MISSING {
                    symbols.push(ids[usize::from(*byte)], len);
                }
            }
        }
        self.merges.apply(symbols, None);
        let mut from = 0;
        for (id, len) in symbols.ids.iter().zip(&symbols.lens) {
            let end = from + *len as usize;
            sink.push(*id, positions[from].0, positions[end - 1].1);
            from = end;
        }
    }
}

impl Spelling {
    /// By byte, the tokens of the letters that make up most words.
    pub(super) fn alphabet(&self) -> &[u32] {
        match self {
            Spelling::Bytes { ids, .. } => ids.as_slice(),
            Spelling::Characters { ascii, .. } => ascii.as_slice(),
        }
    }

    /// Returns a word's symbols if all of them are letters. Letters spelled by fallback bytes count
    /// as well, because these never merge.
    fn letters<'word>(&self, word: &'word [u8]) -> Option<&'word [u8]> {
        Some(word).filter(|word| matches!(self, Spelling::Bytes { .. }) || word.is_ascii())
    }

    /// Appends a word's initial symbols. Returns false if the vocabulary lacks one.
    fn spell(&self, word: &[u8], symbols: &mut Symbols) -> bool {
        match self {
            Spelling::Bytes { ids, whole } => {
                if let Some(id) = whole.as_ref().and_then(|whole| whole.get(word)) {
                    symbols.push(id, word.len() as u32);
                    return true;
                }
                word.iter().for_each(|byte| symbols.push(ids[usize::from(*byte)], 1));
                !symbols.ids.contains(&MISSING)
            }
            Spelling::Characters { ascii, others, bytes } => {
                for character in characters(word).chars() {
                    let id = if character.is_ascii() {
                        Some(ascii[character as usize])
                    } else {
                        others.get(&character).copied()
                    };
                    match id {
                        Some(id) if id != MISSING => symbols.push(id, character.len_utf8() as u32),
                        _ => {
                            let mut buffer = [0; 4];
                            let encoded = character.encode_utf8(&mut buffer).as_bytes();
                            encoded
                                .iter()
                                .for_each(|byte| symbols.push(bytes[usize::from(*byte)], 1));
                        }
                    }
                }
                true
            }
        }
    }
}

fn characters(word: &[u8]) -> &str {
    std::str::from_utf8(word).expect("texts are split at character boundaries only")
}
