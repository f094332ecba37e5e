//! Distinguishes a JSON document from JSON lines by the first bytes of a text, and tracks brackets
//! and strings.

/// Members of an object that are read as its rows if they are arrays of objects. Lists inside a
/// row, such as `messages`, have other names.
const ROWS: [&[u8]; 7] =
    [b"data", b"rows", b"examples", b"instances", b"samples", b"records", b"train"];

/// The form of a text input.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::read) enum Form {
    /// One row per line.
    Lines,
    /// A JSON document.
    Document(Start),
}

/// Where the rows of a document begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::read) struct Start {
    /// Number of bytes before the first row.
    pub(super) from: usize,
    pub(super) around: Around,
}

/// The JSON value that contains the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Around {
    /// The rows are not enclosed: objects follow each other.
    Nothing,
    Array,
    /// The rows are in an array that is a member of an object.
    Member,
}

/// Detects the form from the first bytes of a text. `is_all` means that the text has no further
/// bytes.
pub(in crate::read) fn form_of(head: &[u8], is_all: bool) -> Form {
    let before = head.len() - head.trim_ascii_start().len();
    let text = &head[before..];
    let (line, others) = text.split_at(memchr::memchr(b'\n', text).unwrap_or(text.len()));
    let mut nesting = Nesting::default();
    let line_end = match text.first() {
        Some(b'[' | b'{') => nesting.value_end(line),
        _ => return Form::Lines,
    };
    let is_one_line = |end: usize| is_all && text[end..].trim_ascii().is_empty();
    let is_row = match line_end {
        // Rows in an array are one document, whatever follows. That is then an error.
        Some(_) if starts_with_object_in_array(text) => false,
        Some(end) => !is_one_line(end),
        // A string cannot continue on the next line, so this is a row that was cut off.
        None => nesting.in_string && !others.is_empty(),
    };
    if is_row {
        return Form::Lines;
    }
    let document = |from, around| Form::Document(Start { from: before + from, around });
    if text.starts_with(b"[") {
        document(1, Around::Array)
    } else if let Some(from) = rows_of_object(text) {
        document(from, Around::Member)
    } else if line_end.is_none() && starts_with_value(text) {
        document(0, Around::Nothing)
    } else {
        Form::Lines
    }
}

/// Whether a text starts with an array whose first element is an object.
fn starts_with_object_in_array(text: &[u8]) -> bool {
    text.strip_prefix(b"[").is_some_and(|inside| inside.trim_ascii_start().starts_with(b"{"))
}

/// Whether a text starts with a complete JSON value.
fn starts_with_value(text: &[u8]) -> bool {
    let mut values =
        serde_json::Deserializer::from_slice(text).into_iter::<serde::de::IgnoredAny>();
    values.next().is_some_and(|value| value.is_ok())
}

/// Returns the position of the first row if the text is an object that contains a list of rows.
fn rows_of_object(text: &[u8]) -> Option<usize> {
    let skip = |at: usize| {
        let rest = text.get(at..)?;
        Some(at + rest.len() - rest.trim_ascii_start().len())
    };
    let value_end = |at: usize| Some(at + Nesting::default().value_end(text.get(at..)?)?);
    let mut at = skip(1)?;
    while text.get(at) == Some(&b'"') {
        let name_end = value_end(at)?;
        let name = &text[at + 1..name_end - 1];
        at = skip(name_end)?;
        if text.get(at) != Some(&b':') {
            return None;
        }
        at = skip(at + 1)?;
        if text.get(at) == Some(&b'[')
            && text.get(skip(at + 1)?) == Some(&b'{')
            && ROWS.contains(&name)
        {
            return Some(at + 1);
        }
        at = skip(value_end(at)?)?;
        if text.get(at) != Some(&b',') {
            return None;
        }
        at = skip(at + 1)?;
    }
    None
}

/// A position within a JSON value.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Nesting {
    pub(super) depth: usize,
    pub(super) in_string: bool,
    /// Whether the last byte was a backslash inside a string.
    pub(super) is_escaped: bool,
}

impl Nesting {
    /// Continues through a value, and returns the position of its end if the end is in `bytes`.
    pub(super) fn value_end(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while at < bytes.len() {
            if self.in_string {
                at += self.string_end(&bytes[at..])?;
                if self.depth == 0 {
                    return Some(at);
                }
                continue;
            }
            match bytes[at] {
                b'"' => self.in_string = true,
                b'{' | b'[' => self.depth += 1,
                // The end of a number or of a literal.
                b'}' | b']' | b',' | b' ' | b'\t' | b'\r' | b'\n' if self.depth == 0 => {
                    return Some(at);
                }
                b'}' | b']' => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        return Some(at + 1);
                    }
                }
                _ => {}
            }
            at += 1;
        }
        None
    }

    /// Continues through a string, and returns the position of its end if the end is in `bytes`.
    fn string_end(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = usize::from(std::mem::take(&mut self.is_escaped));
        while let Some(found) = bytes.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest))
        {
            at += found + 1;
            if bytes[at - 1] == b'"' {
                self.in_string = false;
                return Some(at);
            }
            self.is_escaped = at == bytes.len();
            at += 1;
        }
        None
    }
}
