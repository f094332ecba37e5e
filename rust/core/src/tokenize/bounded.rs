//! The parts of a tokenizer that can do far more work than a text is long: normalizers that make it grow, and patterns that backtrack.
//! They are the `tokenizers` crate's own and give the same result; here every match and every byte is counted, and a text that
//! takes more than its share fails. A tokenizer is somebody else's program: it may spoil a row, never the run.

use std::cell::Cell;
use std::collections::HashMap;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};

use base64::Engine;
use onig::{MatchParam, Regex, Region, SearchOptions};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use tokenizers::models::ModelWrapper;
use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::pattern::{Invert, Pattern};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::split::SplitPattern;
use tokenizers::{Model, NormalizedString, Normalizer, Offsets, PreTokenizedString, PreTokenizer, Result, SplitDelimiterBehavior, Token};

/// Bytes of a piece of a unigram model at most: each place of a text is compared with the pieces that may start there.
const PIECE_BYTES_MAX: usize = 1 << 8;
/// Normalizers in a row, and pre-tokenizers in a row. Published tokenizers have five at most.
const STEPS_MAX: usize = 64;
/// A normalized text has at most this many bytes for each of the row's, plus [`GROWTH_FREE`], and never more than [`NORMAL_BYTES_MAX`].
/// The compatibility forms of Unicode make 11 of one.
const GROWTH_MAX: usize = 16;
const GROWTH_FREE: usize = 64 << 10;
/// Each of its bytes has an offset of 16 bytes beside it.
const NORMAL_BYTES_MAX: usize = 64 << 20;
/// Bytes that a sentencepiece normalizer may write for one character; NFKC's longest has 33.
const CHARSMAP_BYTES_MAX: usize = 64;
/// Backtracking steps that are free at each place of a text. Published patterns take about ten.
const STEPS_FREE: u32 = 128;
/// Further steps that a text may take: for each byte of it, and besides.
const STEPS_A_BYTE: u64 = 64;
const STEPS_BESIDES: u64 = 1 << 20;
/// Alternatives that a match may keep open at a time.
const STACK_MAX: u32 = 4 << 20;

/// A model whose parts were looked at before the crate makes anything of them.
#[derive(Debug)]
pub(super) struct Models(ModelWrapper);

impl Models {
    /// The crate's own.
    pub(super) fn inner(&self) -> &ModelWrapper {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Models {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Models, D::Error> {
        let mut part = Value::deserialize(deserializer)?;
        check_pieces(&part).map_err(D::Error::custom)?;
        // As the crate tells one model from another, without the copies that it makes of it on the way.
        let name = part.as_object_mut().and_then(|fields| fields.remove("type"));
        let model = match name.as_ref().and_then(Value::as_str) {
            Some("BPE") => serde_json::from_value(part).map(ModelWrapper::BPE),
            Some("WordPiece") => serde_json::from_value(part).map(ModelWrapper::WordPiece),
            Some("WordLevel") => serde_json::from_value(part).map(ModelWrapper::WordLevel),
            Some("Unigram") => serde_json::from_value(part).map(ModelWrapper::Unigram),
            Some(other) => return Err(D::Error::custom(format!("a model of type `{other}` is not known"))),
            None => serde_json::from_value(part),
        };
        model.map(Models).map_err(D::Error::custom)
    }
}

/// Checks the pieces of a unigram model: of a long one the crate makes a trie that is nested until the stack is used up.
fn check_pieces(model: &Value) -> std::result::Result<(), String> {
    let pieces = model["vocab"].as_array().into_iter().flatten();
    match pieces.filter_map(|piece| piece[0].as_str()).map(str::len).max() {
        Some(longest) if longest > PIECE_BYTES_MAX => Err(format!("its longest piece has {longest} bytes, more than {PIECE_BYTES_MAX}")),
        _ => Ok(()),
    }
}

impl Model for Models {
    type Trainer = <ModelWrapper as Model>::Trainer;

    fn tokenize(&self, text: &str) -> Result<Vec<Token>> {
        self.0.tokenize(text)
    }

    fn token_to_id(&self, token: &str) -> Option<u32> {
        self.0.token_to_id(token)
    }

    fn id_to_token(&self, id: u32) -> Option<String> {
        self.0.id_to_token(id)
    }

    fn get_vocab(&self) -> HashMap<String, u32> {
        self.0.get_vocab()
    }

    fn get_vocab_size(&self) -> usize {
        self.0.get_vocab_size()
    }

    fn save(&self, folder: &Path, prefix: Option<&str>) -> Result<Vec<PathBuf>> {
        self.0.save(folder, prefix)
    }

    fn get_trainer(&self) -> Self::Trainer {
        self.0.get_trainer()
    }
}

/// A normalizer that counts.
#[derive(Debug)]
pub(super) struct Normalizers {
    whole: NormalizerWrapper,
    steps: Vec<NormalizerStep>,
}

#[derive(Debug)]
enum NormalizerStep {
    Plain(NormalizerWrapper),
    Replace { regex: Regex, content: String },
}

impl Normalizers {
    fn new(whole: NormalizerWrapper) -> std::result::Result<Normalizers, String> {
        let mut steps = Vec::new();
        add_normalizer(&whole, &mut steps)?;
        Ok(Normalizers { whole, steps })
    }
}

fn add_normalizer(normalizer: &NormalizerWrapper, steps: &mut Vec<NormalizerStep>) -> std::result::Result<(), String> {
    let part = |normalizer| serde_json::to_value(normalizer).map_err(|error| error.to_string());
    match normalizer {
        NormalizerWrapper::Sequence(inner) => return inner.as_ref().iter().try_for_each(|one| add_normalizer(one, steps)),
        NormalizerWrapper::Replace(_) => {
            let part: Value = part(normalizer)?;
            let content = part["content"].as_str().unwrap_or_default().to_owned();
            match part["pattern"]["Regex"].as_str() {
                Some(pattern) => steps.push(NormalizerStep::Replace { regex: regex(pattern)?, content }),
                None => {
                    let text = part["pattern"]["String"].as_str().unwrap_or_default();
                    steps.push(NormalizerStep::Replace { regex: regex(&regex::escape(text))?, content });
                }
            }
        }
        other => steps.push(NormalizerStep::Plain(other.clone())),
    }
    check_steps(steps.len(), "normalizers")
}

fn check_steps(steps: usize, what: &str) -> std::result::Result<(), String> {
    if steps > STEPS_MAX { Err(format!("it has more than {STEPS_MAX} {what}")) } else { Ok(()) }
}

fn regex(pattern: &str) -> std::result::Result<Regex, String> {
    check_scans(pattern)?;
    Regex::new(pattern).map_err(|error| format!("its pattern `{pattern}` cannot be read: {}", error.description()))
}

/// Refuses what reads ahead without backtracking, at every place of a text anew, so that no count of steps sees it: groups that are atomic or
/// say what is absent, and repeats without end in what looks ahead or behind. No published tokenizer has any of these.
fn check_scans(pattern: &str) -> std::result::Result<(), String> {
    let refused = |what: &str| Err(format!("its pattern `{pattern}` has {what}, which takes too many steps on a long text"));
    let mut bytes = pattern.bytes().enumerate();
    // For each group that is open, whether it or one round it looks ahead or behind.
    let mut looks = Vec::new();
    let mut class_depth = 0;
    while let Some((place, byte)) = bytes.next() {
        let rest = &pattern.as_bytes()[place + 1..];
        match byte {
            b'\\' => _ = bytes.next(),
            b'[' => class_depth += 1,
            b']' if class_depth > 0 => class_depth -= 1,
            _ if class_depth > 0 => {}
            b'(' if rest.starts_with(b"?>") => return refused("an atomic group"),
            b'(' if rest.starts_with(b"?~") => return refused("an absent group"),
            b'(' => {
                let is_look = [&b"?="[..], b"?!", b"?<=", b"?<!"].iter().any(|start| rest.starts_with(start));
                looks.push(is_look || looks.last() == Some(&true));
            }
            b')' => _ = looks.pop(),
            b'*' | b'+' if looks.last() == Some(&true) => return refused("a repeat in what it looks ahead or behind for"),
            b'{' if looks.last() == Some(&true) => return refused("a repeat in what it looks ahead or behind for"),
            _ => {}
        }
    }
    Ok(())
}

/// Checks every character map in a normalizer's JSON before the crate sees it, which would make room for whatever a map says it needs.
fn check_charsmaps(part: &Value) -> std::result::Result<(), String> {
    match part {
        Value::Object(fields) => fields.iter().try_for_each(|(name, value)| match value.as_str() {
            Some(map) if name == "precompiled_charsmap" => check_charsmap(map),
            _ => check_charsmaps(value),
        }),
        Value::Array(parts) => parts.iter().try_for_each(check_charsmaps),
        _ => Ok(()),
    }
}

/// A map of sentencepiece's, in base64: the size of a trie, the trie, then what is written, each text ended by a zero.
fn check_charsmap(base64: &str) -> std::result::Result<(), String> {
    let failed = || "its character map is damaged".to_owned();
    let map = base64::engine::general_purpose::STANDARD.decode(base64).map_err(|_| failed())?;
    let (size, rest) = map.split_first_chunk::<4>().ok_or_else(failed)?;
    let written = rest.get(u32::from_le_bytes(*size) as usize..).ok_or_else(failed)?;
    let longest = written.split(|byte| *byte == 0).map(<[u8]>::len).max().unwrap_or_default();
    if longest <= CHARSMAP_BYTES_MAX {
        return Ok(());
    }
    Err(format!("its character map writes {longest} bytes for one character, more than {CHARSMAP_BYTES_MAX}"))
}

impl Normalizer for Normalizers {
    /// Unwinds where the text takes more than its share: the crate drops a normalizer's error and would go on with the text as it was.
    fn normalize(&self, normalized: &mut NormalizedString) -> Result<()> {
        self.counted(normalized).map_err(|error| resume_unwind(Box::new(error.to_string())))
    }
}

impl Normalizers {
    fn counted(&self, normalized: &mut NormalizedString) -> Result<()> {
        let bytes = normalized.get().len();
        let room = (bytes * GROWTH_MAX + GROWTH_FREE).min(NORMAL_BYTES_MAX);
        let budget = Budget::default();
        budget.add(bytes);
        for step in &self.steps {
            match step {
                NormalizerStep::Plain(plain) => plain.normalize(normalized)?,
                NormalizerStep::Replace { regex, content } => {
                    let room = room.saturating_sub(normalized.get().len());
                    normalized.replace(&Counted { regex, budget: &budget, written: content.len(), room }, content)?;
                }
            }
            if normalized.get().len() > room {
                return Err(grown(room));
            }
        }
        Ok(())
    }
}

fn grown(room: usize) -> tokenizers::Error {
    format!("its normalizer would make more than {room} bytes of this text").into()
}

impl Serialize for Normalizers {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        self.whole.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Normalizers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Normalizers, D::Error> {
        let part = Value::deserialize(deserializer)?;
        check_charsmaps(&part).map_err(D::Error::custom)?;
        let whole = NormalizerWrapper::deserialize(part).map_err(D::Error::custom)?;
        Normalizers::new(whole).map_err(D::Error::custom)
    }
}

/// A pre-tokenizer that counts.
#[derive(Debug)]
pub(super) struct PreTokenizers {
    whole: PreTokenizerWrapper,
    steps: Vec<PreTokenizerStep>,
}

#[derive(Debug)]
enum PreTokenizerStep {
    Plain(PreTokenizerWrapper),
    Split { regex: Regex, behavior: SplitDelimiterBehavior, invert: bool },
}

impl PreTokenizers {
    fn new(whole: PreTokenizerWrapper) -> std::result::Result<PreTokenizers, String> {
        let mut steps = Vec::new();
        add_pre_tokenizer(&whole, &mut steps)?;
        Ok(PreTokenizers { whole, steps })
    }
}

fn add_pre_tokenizer(pre_tokenizer: &PreTokenizerWrapper, steps: &mut Vec<PreTokenizerStep>) -> std::result::Result<(), String> {
    match pre_tokenizer {
        PreTokenizerWrapper::Sequence(inner) => return inner.as_ref().iter().try_for_each(|one| add_pre_tokenizer(one, steps)),
        PreTokenizerWrapper::Split(split) => {
            let regex = match &split.pattern {
                SplitPattern::Regex(pattern) => regex(pattern)?,
                SplitPattern::String(text) => regex(&regex::escape(text))?,
            };
            steps.push(PreTokenizerStep::Split { regex, behavior: split.behavior, invert: split.invert });
        }
        other => steps.push(PreTokenizerStep::Plain(other.clone())),
    }
    check_steps(steps.len(), "pre-tokenizers")
}

impl PreTokenizer for PreTokenizers {
    fn pre_tokenize(&self, pretokenized: &mut PreTokenizedString) -> Result<()> {
        for step in &self.steps {
            let (regex, behavior, invert) = match step {
                PreTokenizerStep::Plain(plain) => {
                    plain.pre_tokenize(pretokenized)?;
                    continue;
                }
                PreTokenizerStep::Split { regex, behavior, invert } => (regex, *behavior, *invert),
            };
            let budget = Budget::default();
            pretokenized.split(|_, text| {
                budget.add(text.get().len());
                let pattern = Counted { regex, budget: &budget, written: 0, room: usize::MAX };
                if invert { text.split(Invert(&pattern), behavior) } else { text.split(&pattern, behavior) }
            })?;
        }
        Ok(())
    }
}

impl Serialize for PreTokenizers {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        self.whole.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for PreTokenizers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<PreTokenizers, D::Error> {
        PreTokenizers::new(PreTokenizerWrapper::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// Backtracking steps that a text has left, beyond those that are free.
#[derive(Debug)]
struct Budget(Cell<u64>);

impl Default for Budget {
    fn default() -> Budget {
        Budget(Cell::new(STEPS_BESIDES))
    }
}

impl Budget {
    /// Adds what so many bytes may take.
    fn add(&self, bytes: usize) {
        self.0.set(self.0.get().saturating_add(STEPS_A_BYTE.saturating_mul(bytes as u64)));
    }

    fn spend(&self, steps: u32) -> Result<()> {
        let left = self.0.get().checked_sub(u64::from(steps));
        self.0.set(left.ok_or("one of its patterns takes too many steps on this text")?);
        Ok(())
    }
}

/// A pattern whose backtracking is paid for. `written`: bytes that take the place of each match; `room`: those that there is room for.
struct Counted<'run> {
    regex: &'run Regex,
    budget: &'run Budget,
    written: usize,
    room: usize,
}

impl Pattern for &Counted<'_> {
    /// The crate's `Pattern for &Regex`, with matches that are counted.
    fn find_matches(&self, inside: &str) -> Result<Vec<(Offsets, bool)>> {
        if inside.is_empty() {
            return Ok(vec![((0, 0), false)]);
        }
        let (mut prev, mut written) = (0, 0);
        let mut splits = Vec::with_capacity(inside.len());
        let mut places = Places { at: 0, last_end: None };
        while let Some((start, end)) = self.next(inside, &mut places)? {
            written += self.written;
            if written > self.room {
                return Err(grown(self.room));
            }
            if prev != start {
                splits.push(((prev, start), false));
            }
            splits.push(((start, end), true));
            prev = end;
        }
        if prev != inside.len() {
            splits.push(((prev, inside.len()), false));
        }
        Ok(splits)
    }
}

/// Where the next match is looked for, and where the last one ended.
struct Places {
    at: usize,
    last_end: Option<usize>,
}

impl Counted<'_> {
    /// The next match, as `onig::FindMatches` steps from one to the next: an empty one right behind another does not count.
    fn next(&self, inside: &str, places: &mut Places) -> Result<Option<(usize, usize)>> {
        while places.at <= inside.len() {
            let Some((start, end)) = self.search(inside, places.at)? else { return Ok(None) };
            if start == end && places.last_end == Some(end) {
                places.at += inside[places.at..].chars().next().map_or(1, char::len_utf8);
                continue;
            }
            (places.at, places.last_end) = (end, Some(end));
            return Ok(Some((start, end)));
        }
        Ok(None)
    }

    /// The first match from a place on. The free steps do almost always; where they do not, place by place with as many as it takes.
    fn search(&self, inside: &str, from: usize) -> Result<Option<(usize, usize)>> {
        let mut region = Region::new();
        let free = self.regex.search_with_param(
            inside,
            from,
            inside.len(),
            SearchOptions::SEARCH_OPTION_NONE,
            Some(&mut region),
            limited(STEPS_FREE),
        );
        if let Ok(found) = free {
            return Ok(found.and(region.pos(0)));
        }
        for at in (from..=inside.len()).filter(|at| inside.is_char_boundary(*at)) {
            if let Some(found) = self.match_at(inside, at)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// A match that starts at this place, with steps enough for it, paid for.
    fn match_at(&self, inside: &str, at: usize) -> Result<Option<(usize, usize)>> {
        let mut steps = STEPS_FREE;
        loop {
            let mut region = Region::new();
            let found = self.regex.match_with_param(inside, at, SearchOptions::SEARCH_OPTION_NONE, Some(&mut region), limited(steps));
            if let Ok(found) = found {
                return Ok(found.and(region.pos(0)));
            }
            steps = steps.saturating_mul(4);
            self.budget.spend(steps)?;
        }
    }
}

fn limited(steps: u32) -> MatchParam {
    let mut limits = MatchParam::default();
    limits.set_retry_limit_in_match(steps);
    limits.set_match_stack_limit(STACK_MAX);
    limits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, text: &str) -> Result<Vec<(Offsets, bool)>> {
        let (regex, budget) = (regex(pattern).expect("compiles"), Budget::default());
        budget.add(text.len());
        (&Counted { regex: &regex, budget: &budget, written: 0, room: usize::MAX }).find_matches(text)
    }

    #[test]
    fn counted_matches_are_those_of_the_crate() {
        let long = format!("{}b {} c", "A".repeat(5_000), "aB".repeat(3_000));
        let texts = ["", "a", " a  b\n\n c ", "Ünïcode 日本 👩‍👩‍👧 x", "aaab", "AAAA BBBb", long.as_str()];
        let patterns = [
            r"\s+(?!\S)|\s+",
            r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}]*[\p{Ll}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}]+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+",
            "x*",
            "",
            "a|$",
            "(?<=a)b",
            r"A+b\b",
        ];
        for (pattern, text) in patterns.iter().flat_map(|pattern| texts.map(|text| (pattern, text))) {
            let expected = (&regex(pattern).expect("compiles")).find_matches(text).expect("matches");
            assert_eq!(matches(pattern, text).expect("matches"), expected, "{pattern:?} on {text:?}");
        }
    }

    #[test]
    fn patterns_that_go_back_without_end_fail_by_count() {
        for (pattern, text) in [
            (r"(a|a)*$", "a".repeat(30) + "b"),
            (r"(x+x+)+y", "x".repeat(40)),
            (r"(?:.*.*.*)§|.", "ordinary words, one line of them, ".repeat(60)),
            (r"(\w+\s?)*§|\w", "two words of no great length ".repeat(40)),
        ] {
            let error = matches(pattern, &text).expect_err("too many steps").to_string();
            assert!(error.contains("too many steps"), "{error}");
        }
    }

    #[test]
    fn patterns_that_read_ahead_uncounted_are_refused_and_published_ones_are_not() {
        for pattern in [r"(?=(?>a*)b)a|b", r"(?>a)", r"(?~b)c|a", r"(?!.*c)a", r"(?<=a+)b", r"(?=(a|b{2,})c)", r"(?=[\]]*)"] {
            assert!(check_scans(pattern).is_err(), "{pattern}");
        }
        for pattern in [
            r"\s+(?!\S)|\s+",
            r"((?=[\p{L}])([^a-z]))*((?=[\p{L}])([^A-Z]))+",
            r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s",
            r"(?=[*+{(?>])a*",
            r"\(?>*",
        ] {
            assert_eq!(check_scans(pattern), Ok(()), "{pattern}");
        }
    }

    #[test]
    fn normalizers_that_grow_a_text_fail_before_they_do() {
        let replace = |content: &str| serde_json::json!({"type": "Replace", "pattern": {"String": "a"}, "content": content});
        let tenfold = vec![replace("aaaaaaaaaa"); 9];
        let nothing = serde_json::json!({"type": "Replace", "pattern": {"Regex": ""}, "content": "b".repeat(1_000)});
        for steps in [tenfold, vec![replace(&"a".repeat(1_000)); 3], vec![nothing]] {
            let sequence = serde_json::json!({"type": "Sequence", "normalizers": steps});
            let normalizer: Normalizers = serde_json::from_value(sequence).expect("loads");
            let mut text = NormalizedString::from("a".repeat(100_000));
            let error = normalizer.counted(&mut text).expect_err("grows").to_string();
            assert!(error.contains("would make more than"), "{error}");
        }
        let normalizer: Normalizers = serde_json::from_value(replace("▁")).expect("loads");
        let mut text = NormalizedString::from("banana");
        normalizer.normalize(&mut text).expect("three bytes for one");
        assert_eq!(text.get(), "b▁n▁n▁");
    }

    #[test]
    fn character_maps_and_step_counts_have_caps() {
        let map = |written: &str| {
            let bytes = [&4_u32.to_le_bytes()[..], &[0; 4], written.as_bytes()].concat();
            base64::engine::general_purpose::STANDARD.encode(bytes)
        };
        assert_eq!(check_charsmap(&map("a\0bc\0")), Ok(()));
        assert!(check_charsmap(&map(&"x".repeat(65))).is_err());
        assert!(check_charsmap("%").is_err());
        let many = serde_json::json!({"type": "Sequence", "normalizers": vec![serde_json::json!({"type": "NFC"}); 65]});
        let error = serde_json::from_value::<Normalizers>(many).expect_err("too many").to_string();
        assert!(error.contains("more than 64 normalizers"), "{error}");
    }
}
