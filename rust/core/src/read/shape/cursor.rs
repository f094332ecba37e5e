//! Reads JSON rows of known fields fast. It gives what serde_json would give, or `None`: whatever
//! it is not sure of, from an escaped key to a broken row, is left to serde_json, whose word is
//! final.
//!
//! Quotes, backslashes and control characters are found 64 bytes at a time, and each window is
//! looked at once, however many strings and escapes it holds. A control character stands nowhere in
//! a row that is read here.

use std::borrow::Cow;
use std::str::FromStr;

use serde_json::value::RawValue;

use super::deciding::{Level, is_flag, may_decide};
use crate::simd::bits::{WINDOW, bits};

/// Values deeper than this are left to serde_json.
const DEPTH_MAX: usize = 24;

/// A place in a row.
pub(super) struct Cursor<'row> {
    row: &'row str,
    at: usize,
    /// Where the window ends that was looked at last; it begins no later than `at`, since a cursor
    /// only goes forward.
    seen: usize,
    /// A bit for each byte of that window that a string does not hold as it is.
    specials: u64,
    /// The text of a string with escapes, until it is whole.
    unescaped: String,
}

/// What a row's text reads as by `value`; `None` where serde_json must say.
pub(super) fn whole<'row, T>(
    row: &'row str,
    value: impl FnOnce(&mut Cursor<'row>) -> Option<T>,
) -> Option<T> {
    let row = row.trim_end_matches([' ', '\t', '\r', '\n']);
    let mut cursor = Cursor { row, at: 0, seen: 0, specials: 0, unescaped: String::new() };
    let value = value(&mut cursor)?;
    (cursor.at == row.len()).then_some(value)
}

/// Fills a field; `None` where it was filled before, which serde_json refuses.
pub(super) fn once<T>(field: &mut Option<T>, value: Option<T>) -> Option<()> {
    if field.is_some() {
        return None;
    }
    *field = Some(value?);
    Some(())
}

impl<'row> Cursor<'row> {
    /// An object: `field` takes the value of each key.
    pub(super) fn object(
        &mut self,
        mut field: impl FnMut(&mut Self, &'row str) -> Option<()>,
    ) -> Option<()> {
        self.eat(b'{')?;
        if self.eat(b'}').is_some() {
            return Some(());
        }
        loop {
            let key = self.key()?;
            self.eat(b':')?;
            field(self, key)?;
            if self.eat(b',').is_none() {
                return self.eat(b'}');
            }
        }
    }

    /// An array of such elements.
    pub(super) fn list<T>(
        &mut self,
        mut element: impl FnMut(&mut Self) -> Option<T>,
    ) -> Option<Vec<T>> {
        let mut list = Vec::new();
        self.eat(b'[')?;
        if self.eat(b']').is_some() {
            return Some(list);
        }
        loop {
            list.push(element(self)?);
            if self.eat(b',').is_none() {
                return self.eat(b']').map(|()| list);
            }
        }
    }

    /// Null or such a value.
    pub(super) fn maybe<T>(
        &mut self,
        value: impl FnOnce(&mut Self) -> Option<T>,
    ) -> Option<Option<T>> {
        if self.peek() == Some(b'n') {
            self.word("null").map(|()| None)
        } else {
            value(self).map(Some)
        }
    }

    /// A string.
    pub(super) fn text(&mut self) -> Option<String> {
        self.borrowed_text().map(Cow::into_owned)
    }

    /// A string; borrowed where nothing in it is escaped.
    pub(super) fn borrowed_text(&mut self) -> Option<Cow<'row, str>> {
        self.eat(b'"')?;
        let plain = self.until_special()?;
        if self.is_closed()? {
            return Some(Cow::Borrowed(plain));
        }
        let mut unescaped = std::mem::take(&mut self.unescaped);
        unescaped.clear();
        unescaped.push_str(plain);
        loop {
            unescaped.push(self.escape()?);
            unescaped.push_str(self.until_special()?);
            if self.is_closed()? {
                break;
            }
        }
        let text = unescaped.as_str().to_owned();
        self.unescaped = unescaped;
        Some(Cow::Owned(text))
    }

    /// A whole number without sign, as it is written.
    pub(super) fn digits(&mut self) -> Option<&'row str> {
        let number = self.number()?;
        // Up to 18 digits are below 2^63: serde_json reads them as whole numbers and prints them as
        // they were.
        (number.len() <= 18 && number.bytes().all(|byte| byte.is_ascii_digit())).then_some(number)
    }

    /// A finite number. The nearest double is the nearest double, whoever finds it.
    pub(super) fn float(&mut self) -> Option<f64> {
        let number = self.number()?;
        f64::from_str(number).ok().filter(|number| number.is_finite())
    }

    /// The next byte that is no white space.
    pub(super) fn peek(&mut self) -> Option<u8> {
        loop {
            match self.row.as_bytes().get(self.at)? {
                b' ' => self.at += 1,
                byte => return Some(*byte),
            }
        }
    }

    /// The value of a key that the shape does not read, passed over; `None` where it may decide
    /// what is trained.
    pub(super) fn ignore(&mut self, key: &str, level: Level) -> Option<()> {
        self.ignore_or_flag(key, level).map(drop)
    }

    /// As [`Cursor::ignore`]; true where the value is a flag which says that this is trained.
    pub(super) fn ignore_or_flag(&mut self, key: &str, level: Level) -> Option<bool> {
        if !may_decide(key, level) {
            self.skip().map(|()| false)
        } else if self.eat_empty() {
            Some(false)
        } else {
            is_flag(key, level).then(|| self.eat_one())?.map(|()| true)
        }
    }

    /// Passes over true or 1.
    fn eat_one(&mut self) -> Option<()> {
        match self.peek()? {
            b't' => self.word("true"),
            _ => (self.float()? == 1.0).then_some(()),
        }
    }

    /// Any value, as it is written.
    pub(super) fn raw(&mut self) -> Option<&'row RawValue> {
        self.peek()?;
        let start = self.at;
        self.skip()?;
        serde_json::from_str(&self.row[start..self.at]).ok()
    }

    /// Passes over null, an empty text, list or object; false where something else is next.
    pub(super) fn eat_empty(&mut self) -> bool {
        self.peek();
        let rest = &self.row.as_bytes()[self.at..];
        let empty = [&b"null"[..], b"\"\"", b"[]", b"{}"];
        let found = empty.into_iter().find(|empty| rest.starts_with(empty));
        self.at += found.map_or(0, <[u8]>::len);
        found.is_some()
    }

    /// Any value, as it is written.
    pub(super) fn value(&mut self) -> Option<&'row str> {
        self.peek()?;
        let start = self.at;
        self.skip()?;
        Some(&self.row[start..self.at])
    }

    /// Any value, passed over, but checked as serde_json checks what it ignores.
    pub(super) fn skip(&mut self) -> Option<()> {
        self.skip_within(DEPTH_MAX)
    }

    fn skip_within(&mut self, depth: usize) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        match self.peek()? {
            b'"' => self.skip_text(),
            b'{' => self.object(|cursor, _| cursor.skip_within(depth)),
            b'[' => self.list(|cursor| cursor.skip_within(depth)).map(drop),
            b't' => self.word("true"),
            b'f' => self.word("false"),
            b'n' => self.word("null"),
            _ => self.number().map(drop),
        }
    }

    fn skip_text(&mut self) -> Option<()> {
        self.eat(b'"')?;
        loop {
            self.until_special()?;
            if self.is_closed()? {
                return Some(());
            }
            if self.next()? == b'u' {
                self.hex()?;
            } else {
                plain_escape(self.row.as_bytes()[self.at - 1])?;
            }
        }
    }

    /// A key without escapes.
    fn key(&mut self) -> Option<&'row str> {
        self.eat(b'"')?;
        let key = self.until_special()?;
        (self.next()? == b'"').then_some(key)
    }

    /// Goes to the next byte that a string does not hold as it is, and gives what was passed.
    fn until_special(&mut self) -> Option<&'row str> {
        let start = self.at;
        loop {
            if self.at < self.seen {
                let ahead = self.specials >> (self.at + WINDOW - self.seen);
                if ahead != 0 {
                    self.at += ahead.trailing_zeros() as usize;
                    return Some(&self.row[start..self.at]);
                }
                self.at = self.seen;
            }
            let rest = self.row.as_bytes().get(self.at..).filter(|rest| !rest.is_empty())?;
            self.specials = match rest.first_chunk() {
                Some(window) => specials(window),
                None => {
                    let mut window = [b' '; WINDOW];
                    window[..rest.len()].copy_from_slice(rest);
                    specials(&window)
                }
            };
            self.seen = self.at + WINDOW;
        }
    }

    /// Goes behind a special byte: did it close the string? False for an escape, none for what may
    /// not stand there.
    fn is_closed(&mut self) -> Option<bool> {
        match self.next()? {
            b'"' => Some(true),
            b'\\' => Some(false),
            _ => None,
        }
    }

    /// What an escape stands for, its backslash read.
    fn escape(&mut self) -> Option<char> {
        match self.next()? {
            b'u' => {}
            plain => return plain_escape(plain).map(char::from),
        }
        let unit = self.hex()?;
        if !(0xd800..0xdc00).contains(&unit) {
            return char::from_u32(unit);
        }
        let low = (self.next()? == b'\\' && self.next()? == b'u').then(|| self.hex())??;
        let low = low.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
        char::from_u32(0x10000 + ((unit - 0xd800) << 10) + low)
    }

    fn hex(&mut self) -> Option<u32> {
        let digits = self.row.as_bytes().get(self.at..self.at + 4)?;
        self.at += 4;
        digits
            .iter()
            .try_fold(0, |value, digit| Some(value << 4 | char::from(*digit).to_digit(16)?))
    }

    /// A number, as the grammar has it.
    fn number(&mut self) -> Option<&'row str> {
        self.peek()?;
        let start = self.at;
        self.eat_here(b"-");
        if !self.eat_here(b"0") && self.eat_digits() == 0 {
            return None;
        }
        if self.eat_here(b".") && self.eat_digits() == 0 {
            return None;
        }
        if self.eat_here(b"eE") {
            self.eat_here(b"+-");
            if self.eat_digits() == 0 {
                return None;
            }
        }
        Some(&self.row[start..self.at])
    }

    fn eat_digits(&mut self) -> usize {
        let rest = &self.row.as_bytes()[self.at..];
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += digits;
        digits
    }

    fn eat_here(&mut self, any_of: &[u8]) -> bool {
        let is_there = self.row.as_bytes().get(self.at).is_some_and(|byte| any_of.contains(byte));
        self.at += usize::from(is_there);
        is_there
    }

    fn word(&mut self, word: &str) -> Option<()> {
        self.row[self.at..].starts_with(word).then(|| self.at += word.len())
    }

    fn eat(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.row.as_bytes().get(self.at)?;
        self.at += 1;
        Some(*byte)
    }
}

/// What a one-letter escape stands for.
fn plain_escape(letter: u8) -> Option<u8> {
    Some(match letter {
        b'"' | b'\\' | b'/' => letter,
        b'b' => 0x08,
        b'f' => 0x0c,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        _ => return None,
    })
}

/// Quotes, backslashes and control characters, one bit for each byte.
fn specials(window: &[u8; WINDOW]) -> u64 {
    let mut kinds = [0; WINDOW];
    for (kind, byte) in kinds.iter_mut().zip(window) {
        *kind = u8::from(*byte == b'"') | u8::from(*byte == b'\\') | u8::from(*byte < b' ');
    }
    bits::<0>(&kinds)
}
