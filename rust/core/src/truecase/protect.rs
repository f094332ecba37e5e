//! The parts of a text that truecasing must not touch: fenced and inline code, code-like lines,
//! links, addresses and maths.

use std::ops::Range;

/// A line that starts like this is code, a quotation, a table, a tag or a heading.
const CODE_STARTS: [&str; 25] = [
    "{",
    "}",
    "<",
    "[",
    "#",
    "//",
    "/*",
    "*/",
    "$",
    ">",
    "|",
    "def ",
    "class ",
    "import ",
    "from ",
    "return ",
    "if (",
    "for (",
    "while (",
    "function ",
    "const ",
    "let ",
    "var ",
    "SELECT ",
    "#include",
];
/// The first characters of [`CODE_STARTS`].
const CODE_LETTERS: &[u8] = b"{}<[#/*$>|dcifrwlvS";
/// A line that contains one of these is code.
const CODE_MARKS: [&str; 3] = ["=>", "==", "();"];
/// Characters allowed before `www.`.
const OPENERS: [char; 8] = ['(', '[', '{', '<', '"', '\'', '“', '‘'];

/// The protected spans that start up to `last`, in order and without overlap. If one starts inside
/// another, the leftmost takes precedence.
pub(super) fn spans(text: &str, last: usize) -> Vec<Range<usize>> {
    let mut spans = Vec::new();
    let mut offset = 0;
    while offset < text.len() && offset <= last {
        let line_end = text[offset..].find('\n').map_or(text.len(), |newline| offset + newline);
        let starts_line = offset == 0 || text.as_bytes()[offset - 1] == b'\n';
        let line = &text[offset..line_end];
        if starts_line && is_fence(line) {
            let end = fence_end(text, line_end);
            spans.push(offset..end);
            offset = end;
        } else if starts_line && is_code(line) {
            spans.push(offset..line_end);
            offset = line_end + 1;
        } else {
            offset = within_line(text, offset, line_end, &mut spans);
        }
    }
    spans
}

fn is_fence(line: &str) -> bool {
    line.trim_start_matches([' ', '\t']).starts_with("```")
}

/// The end of the fenced block that was opened before `line_end`: after the closing line, or the
/// end of the text.
fn fence_end(text: &str, line_end: usize) -> usize {
    let mut start = line_end + 1;
    while start < text.len() {
        let end = text[start..].find('\n').map_or(text.len(), |newline| start + newline);
        if is_fence(&text[start..end]) {
            return end;
        }
        start = end + 1;
    }
    text.len()
}

fn is_code(line: &str) -> bool {
    let line = line.trim_matches([' ', '\t', '\r']);
    let may_start = line.bytes().next().is_some_and(|first| CODE_LETTERS.contains(&first));
    line.ends_with(['{', '}', ';'])
        || (may_start && CODE_STARTS.iter().any(|start| line.starts_with(start)))
        || (memchr::memchr2(b'=', b';', line.as_bytes()).is_some()
            && CODE_MARKS.iter().any(|mark| line.contains(mark)))
}

/// Finds the spans that start between `offset` and the end of the line. Returns where to continue,
/// which `$$` may move beyond the line.
fn within_line(
    text: &str,
    mut offset: usize,
    line_end: usize,
    spans: &mut Vec<Range<usize>>,
) -> usize {
    let bytes = text.as_bytes();
    let has_links = may_link(&bytes[offset..line_end]);
    while offset < line_end {
        if !has_links {
            match memchr::memchr2(b'`', b'$', &bytes[offset..line_end]) {
                Some(ahead) => offset += ahead,
                None => break,
            }
        }
        let starts_word =
            has_links && (offset == 0 || text[..offset].ends_with(char::is_whitespace));
        let span = if starts_word { link(text, offset, line_end) } else { None };
        let span = span.or_else(|| match bytes[offset] {
            b'`' => inline_code(text, offset, line_end),
            b'$' => maths(text, offset, line_end),
            _ => None,
        });
        match span {
            Some(span) => {
                offset = span.end;
                spans.push(span);
            }
            None => offset += text[offset..].chars().next().map_or(1, char::len_utf8),
        }
    }
    if offset <= line_end { line_end + 1 } else { offset }
}

/// Whether a line can contain a link or an address. The bytes of most lines already exclude that.
fn may_link(line: &[u8]) -> bool {
    memchr::memchr(b'@', line).is_some()
        || memchr::memchr_iter(b':', line).any(|offset| line[offset..].starts_with(b"://"))
        || memchr::memchr2_iter(b'w', b'W', line).any(|offset| {
            line[offset..].get(..4).is_some_and(|head| head.eq_ignore_ascii_case(b"www."))
        })
}

/// The word at `offset` if it is a link or an address.
fn link(text: &str, offset: usize, line_end: usize) -> Option<Range<usize>> {
    let rest = &text[offset..line_end];
    let word = &rest[..rest.find(char::is_whitespace).unwrap_or(rest.len())];
    let bare = word.trim_start_matches(OPENERS);
    let is_www = bare.get(..4).is_some_and(|head| head.eq_ignore_ascii_case("www."));
    (is_www || word.contains("://") || word.contains('@')).then(|| offset..offset + word.len())
}

fn inline_code(text: &str, offset: usize, line_end: usize) -> Option<Range<usize>> {
    let close = text[offset + 1..line_end].find('`')?;
    (close > 0).then(|| offset..offset + close + 2)
}

fn maths(text: &str, offset: usize, line_end: usize) -> Option<Range<usize>> {
    if text[offset..].starts_with("$$") {
        let close = text[offset + 2..].find("$$")?;
        return (close > 0).then(|| offset..offset + close + 4);
    }
    let close = text[offset + 1..line_end].find('$')?;
    let inside = &text[offset + 1..offset + 1 + close];
    let tight = !inside.is_empty()
        && !inside.starts_with(char::is_whitespace)
        && !inside.ends_with(char::is_whitespace);
    tight.then(|| offset..offset + close + 2)
}
