//! The self-check at load: a hostile text through both engines.

use super::encode::{Encode, Span};
use super::whole_characters;
use crate::stage::Reason;

/// Scripts of all planes, runs of repeated characters, and other texts that are difficult for
/// tokenizers.
const HOSTILE: [&str; 12] = [
    "Hello, world!  It's I'LL we've can't 'tis 'S 'ſ '\u{17f}t don\u{2019}t\t\tend ",
    "  leading, trailing   \n\n \n  \r\n\r \r\t\u{b}\u{c}\u{85}\u{a0}\u{2003}\u{2028}x \
        \u{3000}y\u{feff}",
    "\u{2581}\u{2581}a \u{2581} b\u{2581}\r\u{2581}\n \u{2581}- \n  - x",
    "0 12 345 6789 1234567890 1,000.50 ٣٤ ²³ ½ Ⅷ 一二三 \u{1d7d8}\u{1d7d9}",
    "𐍈𝕏 𠮷 \u{10fffd}\u{e000}\u{e0001} \u{0}\u{1}\u{7f}\u{80} \u{378} \u{1f1e6}\u{1f1e7}",
    "👩‍👩‍👧‍👦 👍🏽 ❤️ 🏴\u{e0067}\u{e0062}\u{e007f}!! 😀😀😀",
    "日本語テキスト、한국어 텍스트 中文。ไทย हिन्दी العربيَّة עִברִית Ελληνικά Русский",
    "e\u{301}e\u{301}\u{323} \u{1100}\u{1161}\u{11a8} n\u{303}\u{303}\u{303}\u{303} \u{344} \
        \u{2126} \u{f900}",
    "== != -> => <= ... ---- //// #### ???!!! (a) [b] {c} <d> \"q\" `e` ~f~ $g$ %h% a_b@c.d/e\\f",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "                                                                                              x",
    "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft \
        camelCaseAndSNAKE",
];

/// Checks that both engines return the same ids and spans for a fixed difficult text and for every
/// added token within text. Otherwise, returns where they differ.
pub(super) fn difference(
    ours: &dyn Encode,
    reference: &dyn Encode,
    added: &[String],
) -> Result<Option<String>, Reason> {
    let tokens: String =
        added.iter().flat_map(|token| [token, "a ", token, "\n", token, " ", token]).collect();
    let all = HOSTILE.concat();
    let texts = HOSTILE.into_iter().chain(["", " ", "a", "\n", all.as_str(), tokens.as_str()]);
    for text in texts {
        let (mut ids, mut spans) = (Vec::new(), Vec::new());
        ours.spans(text, &mut ids, &mut spans)?;
        let (mut expected, mut expected_spans) = (Vec::new(), Vec::new());
        reference.spans(text, &mut expected, &mut expected_spans)?;
        spans.iter_mut().chain(&mut expected_spans).for_each(|span| {
            let range = whole_characters(text, &(span.start as usize..span.end as usize));
            *span = Span { start: range.start as u32, end: range.end as u32 };
        });
        if ids != expected || spans != expected_spans {
            let start: String = text.chars().take(20).collect();
            return Ok(Some(format!("the self-check differs on a text starting with {start:?}")));
        }
    }
    Ok(None)
}
