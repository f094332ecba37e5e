//! Patterns that count their backtracking steps. They find the same matches as the `tokenizers`
//! crate. A text whose matches exceed the limit fails.

use std::cell::Cell;

use onig::{MatchParam, Regex, Region, SearchOptions};
use tokenizers::pattern::Pattern;
use tokenizers::{Offsets, Result};

/// Backtracking steps that are free at each position of a text. Published patterns take about ten.
const STEPS_FREE: u32 = 128;
/// Additional steps that a text may take: per byte, and in total.
const STEPS_A_BYTE: u64 = 64;
const STEPS_BESIDES: u64 = 1 << 20;
/// Alternatives that a match may keep open at a time.
const STACK_MAX: u32 = 4 << 20;

/// Compiles a pattern, unless a step count could not limit it.
pub(super) fn compiled(pattern: &str) -> std::result::Result<Regex, String> {
    check_scans(pattern)?;
    Regex::new(pattern)
        .map_err(|error| format!("its pattern `{pattern}` is invalid: {}", error.description()))
}

/// Rejects patterns that scan ahead again at every position without backtracking, which no step
/// count notices: atomic and absent groups, and unbounded repetition in a lookahead or lookbehind.
/// No published tokenizer contains any of these.
fn check_scans(pattern: &str) -> std::result::Result<(), String> {
    let refused = |what: &str| {
        Err(format!(
            "its pattern `{pattern}` has {what}, which can take too many steps on a long text"
        ))
    };
    let mut bytes = pattern.bytes().enumerate();
    // For each open group, whether it or an enclosing group is a lookahead or lookbehind.
    let mut looks = Vec::new();
    let mut class_depth = 0;
    while let Some((offset, byte)) = bytes.next() {
        let rest = &pattern.as_bytes()[offset + 1..];
        match byte {
            b'\\' => _ = bytes.next(),
            b'[' => class_depth += 1,
            b']' if class_depth > 0 => class_depth -= 1,
            _ if class_depth > 0 => {}
            b'(' if rest.starts_with(b"?>") => return refused("an atomic group"),
            b'(' if rest.starts_with(b"?~") => return refused("an absent group"),
            b'(' => {
                let is_look =
                    [&b"?="[..], b"?!", b"?<=", b"?<!"].iter().any(|start| rest.starts_with(start));
                looks.push(is_look || looks.last() == Some(&true));
            }
            b')' => _ = looks.pop(),
            b'*' | b'+' if looks.last() == Some(&true) => {
                return refused("a repetition in a lookahead or lookbehind");
            }
            b'{' if looks.last() == Some(&true) => {
                return refused("a repetition in a lookahead or lookbehind");
            }
            _ => {}
        }
    }
    Ok(())
}

/// The remaining backtracking steps of a text, in addition to the free ones.
#[derive(Debug)]
pub(super) struct Budget(Cell<u64>);

impl Default for Budget {
    fn default() -> Budget {
        Budget(Cell::new(STEPS_BESIDES))
    }
}

impl Budget {
    /// Adds the steps that this number of bytes may take.
    pub(super) fn add(&self, bytes: usize) {
        self.0.set(self.0.get().saturating_add(STEPS_A_BYTE.saturating_mul(bytes as u64)));
    }

    fn spend(&self, steps: u32) -> Result<()> {
        let left = self.0.get().checked_sub(u64::from(steps));
        self.0.set(left.ok_or("a pattern of the tokenizer exceeds the step limit on this text")?);
        Ok(())
    }
}

/// A pattern that charges for backtracking. `written` is the number of bytes that replace each
/// match, and `room` is the number of bytes still available.
pub(super) struct Counted<'run> {
    pub regex: &'run Regex,
    pub budget: &'run Budget,
    pub written: usize,
    pub room: usize,
}

impl Pattern for &Counted<'_> {
    /// The crate's `Pattern for &Regex`, with counted matches.
    fn find_matches(&self, inside: &str) -> Result<Vec<(Offsets, bool)>> {
        if inside.is_empty() {
            return Ok(vec![((0, 0), false)]);
        }
        let (mut prev, mut written) = (0, 0);
        let mut splits = Vec::with_capacity(inside.len());
        let mut position = Position { at: 0, last_end: None };
        while let Some((start, end)) = self.next(inside, &mut position)? {
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

/// Where the next search starts, and where the last match ended.
struct Position {
    at: usize,
    last_end: Option<usize>,
}

impl Counted<'_> {
    /// Returns the next match, with the same steps as `onig::FindMatches`: an empty match directly
    /// after another one does not count.
    fn next(&self, inside: &str, position: &mut Position) -> Result<Option<(usize, usize)>> {
        while position.at <= inside.len() {
            let Some((start, end)) = self.search(inside, position.at)? else { return Ok(None) };
            if start == end && position.last_end == Some(end) {
                position.at += inside[position.at..].chars().next().map_or(1, char::len_utf8);
                continue;
            }
            (position.at, position.last_end) = (end, Some(end));
            return Ok(Some((start, end)));
        }
        Ok(None)
    }

    /// Finds the first match from an offset on. The free steps almost always suffice. If they do
    /// not, each position is tried separately with as many steps as it takes.
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

    /// Returns a match that starts at this offset, with enough steps for it, which are charged.
    fn match_at(&self, inside: &str, at: usize) -> Result<Option<(usize, usize)>> {
        let mut steps = STEPS_FREE;
        loop {
            let mut region = Region::new();
            let found = self.regex.match_with_param(
                inside,
                at,
                SearchOptions::SEARCH_OPTION_NONE,
                Some(&mut region),
                limited(steps),
            );
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

/// The error for a text that would exceed its limit.
pub(super) fn grown(room: usize) -> tokenizers::Error {
    format!("the normalizer's output exceeds {room} bytes for this text").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, text: &str) -> Result<Vec<(Offsets, bool)>> {
        let (regex, budget) = (compiled(pattern).expect("compiles"), Budget::default());
        budget.add(text.len());
        (&Counted { regex: &regex, budget: &budget, written: 0, room: usize::MAX })
            .find_matches(text)
    }

    #[test]
    fn counted_matches_are_those_of_the_crate() {
        let long = format!("{}b {} c", "A".repeat(5_000), "aB".repeat(3_000));
        let texts =
            ["", "a", " a  b\n\n c ", "Ünïcode 日本 👩‍👩‍👧 x", "aaab", "AAAA BBBb", long.as_str()];
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
        for (pattern, text) in patterns.iter().flat_map(|pattern| texts.map(|text| (pattern, text)))
        {
            let expected =
                (&compiled(pattern).expect("compiles")).find_matches(text).expect("matches");
            assert_eq!(
                matches(pattern, text).expect("matches"),
                expected,
                "{pattern:?} on {text:?}"
            );
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
            assert!(error.contains("exceeds the step limit"), "{error}");
        }
    }

    #[test]
    fn patterns_that_read_ahead_uncounted_are_refused_and_published_ones_are_not() {
        for pattern in [
            r"(?=(?>a*)b)a|b",
            r"(?>a)",
            r"(?~b)c|a",
            r"(?!.*c)a",
            r"(?<=a+)b",
            r"(?=(a|b{2,})c)",
            r"(?=[\]]*)",
        ] {
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
}
