//! The fields that decide what is trained but that no shape uses, see [`super::unsupported`], and how
//! their names are found in any spelling.

use super::ordinary::is_ordinary;
use crate::words::{FirstLetters, is_separator};

/// The kind of object that a field belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    /// The row itself.
    Row,
    /// A message of which only role and content are read.
    Message,
    /// A message of which role, content and whether it is trained are read.
    Spoken,
    /// A message with the members of [`super::members`].
    Turn,
    /// A scored answer.
    Answer,
}

/// Fields that are refused for one reason.
pub(super) struct Group {
    names: &'static [&'static str],
    levels: &'static [Level],
    /// Which values change nothing, besides empty ones.
    pub(super) harmless: Harmless,
    /// Why the fields are refused, and the way out.
    pub(super) advice: &'static str,
}

/// Values of a field under which a row means the same without it.
#[derive(PartialEq, Eq)]
pub(super) enum Harmless {
    None,
    /// 1 or true on a row or on an assistant's message, which is trained in any case.
    Trained,
    /// The text of the system message that the dialogue begins with.
    SystemMessage,
    /// 0 or false: a number of images may be there without an image.
    Absent,
}

const EVERYWHERE: &[Level] = &[Level::Row, Level::Message, Level::Answer];
const NOT_OF_ANSWERS: &[Level] = &[Level::Row, Level::Message];
const NOT_OF_ROWS: &[Level] = &[Level::Message, Level::Answer];

const CALL_ADVICE: &str = "only `tool_calls`, `tool_call_id` and `tool_plan` of a message are \
    passed to the template: use these names, or write it into `content`";
const WEIGHT_ADVICE: &str = "a row cannot be weighted, and a message is trained or not: only 0, 1, \
    true and false are supported, on messages, and 1 and true on a row";
const MASK_ADVICE: &str = "messages and parts of them cannot be left out of training; if \
    everything is to be trained, remove the field";

/// Words for what is no text.
const MEDIA: [&str; 8] =
    ["image", "images", "audio", "audios", "video", "videos", "attachment", "attachments"];
const MEDIA_ADVICE: &str = "only text is supported";

/// The fields, as most sources spell them, see [`is_same`].
const GROUPS: [Group; 14] = [
    Group {
        names: &["tools", "functions", "available_tools", "tool_definitions"],
        levels: NOT_OF_ANSWERS,
        harmless: Harmless::None,
        advice: "the definitions of tools must be in the column `tools` of a row with `messages` or \
            `chosen`, as a list of objects",
    },
    Group {
        names: &["documents"],
        levels: NOT_OF_ANSWERS,
        harmless: Harmless::None,
        advice: "documents are not passed to the template; write them into a message",
    },
    Group {
        names: &["tool_calls", "function_calls"],
        levels: EVERYWHERE,
        harmless: Harmless::None,
        advice: CALL_ADVICE,
    },
    Group {
        names: &["tool_call", "function_call", "tool_call_id", "tool_plan", "tool_results"],
        levels: NOT_OF_ROWS,
        harmless: Harmless::None,
        advice: CALL_ADVICE,
    },
    Group {
        names: &[
            "reasoning_content",
            "reasoning_details",
            "reasoning",
            "thinking_content",
            "thinking",
            "thoughts",
            "thought",
        ],
        levels: NOT_OF_ROWS,
        harmless: Harmless::None,
        advice: "rename it to the member that the template reads, such as `reasoning_content`",
    },
    Group { names: &MEDIA, levels: EVERYWHERE, harmless: Harmless::None, advice: MEDIA_ADVICE },
    Group {
        names: &["image_url", "input_audio"],
        levels: EVERYWHERE,
        harmless: Harmless::None,
        advice: MEDIA_ADVICE,
    },
    Group {
        names: &["weight", "loss_weight", "loss_scale", "train", "trained", "trainable"],
        levels: NOT_OF_ANSWERS,
        harmless: Harmless::Trained,
        advice: WEIGHT_ADVICE,
    },
    // On a row, these are often what a trainer measured.
    Group {
        names: &["training", "loss"],
        levels: &[Level::Message],
        harmless: Harmless::Trained,
        advice: WEIGHT_ADVICE,
    },
    Group {
        names: &["mask", "masked"],
        levels: NOT_OF_ANSWERS,
        harmless: Harmless::None,
        advice: MASK_ADVICE,
    },
    Group {
        names: &["ignore", "train_detail", "training_detail"],
        levels: &[Level::Message],
        harmless: Harmless::None,
        advice: MASK_ADVICE,
    },
    Group {
        names: &["name", "refusal"],
        levels: &[Level::Message],
        harmless: Harmless::None,
        advice: "it is not passed to the template; write it into `content` or remove it",
    },
    Group {
        names: &["system", "system_prompt", "system_message", "system_instruction", "developer"],
        levels: &[Level::Row],
        harmless: Harmless::SystemMessage,
        advice: "make it the first message, with role `system`",
    },
    Group {
        names: &["chat_template_kwargs"],
        levels: &[Level::Row],
        harmless: Harmless::None,
        advice: "template arguments are only read from rows with `messages` or `chosen`",
    },
];

/// Words that mark such a field as the first or last of its name, in addition to [`GROUPS`]: `loss_mask`,
/// `train_on_turn`, `experimental_attachments`. On a row, only the last word counts.
const WORDS: [Group; 4] = [
    Group {
        names: &["train", "trained", "training", "trainable", "loss"],
        levels: &[Level::Message],
        harmless: Harmless::Trained,
        advice: WEIGHT_ADVICE,
    },
    Group {
        names: &["weight", "weights"],
        levels: NOT_OF_ANSWERS,
        harmless: Harmless::Trained,
        advice: WEIGHT_ADVICE,
    },
    Group {
        names: &["mask", "masks", "masked"],
        levels: NOT_OF_ANSWERS,
        harmless: Harmless::None,
        advice: MASK_ADVICE,
    },
    Group { names: &MEDIA, levels: EVERYWHERE, harmless: Harmless::Absent, advice: MEDIA_ADVICE },
];
/// What a tokenizer writes, so a row of text may still have it.
const ATTENTION_MASK: &str = "attention_mask";
/// Longer names are not searched for words.
const WORDY_BYTES_MAX: usize = 64;

/// Those of [`GROUPS`].
const NAMED: FirstLetters = first_letters(&GROUPS);
/// Those of [`WORDS`].
const WORDED: FirstLetters = first_letters(&WORDS);

const fn first_letters(groups: &[Group]) -> FirstLetters {
    let (mut letters, mut group) = (FirstLetters::of(&[]), 0);
    while group < groups.len() {
        letters = letters.and(groups[group].names);
        group += 1;
    }
    letters
}

/// The names of [`GROUPS`] as numbers.
const HASHES: [u32; NAMES] = {
    let (mut hashes, mut count, mut group) = ([0; NAMES], 0, 0);
    while group < GROUPS.len() {
        let mut name = 0;
        while name < GROUPS[group].names.len() {
            hashes[count] = hash(GROUPS[group].names[name]);
            (count, name) = (count + 1, name + 1);
        }
        group += 1;
    }
    hashes
};

const NAMES: usize = {
    let (mut count, mut group) = (0, 0);
    while group < GROUPS.len() {
        count += GROUPS[group].names.len();
        group += 1;
    }
    count
};

/// Equal for all spellings of a name (FNV-1a).
const fn hash(key: &str) -> u32 {
    let (bytes, mut at, mut hash) = (key.as_bytes(), 0, 0x811C_9DC5_u32);
    while at < bytes.len() {
        if !is_separator(bytes[at]) {
            hash = (hash ^ bytes[at].to_ascii_lowercase() as u32).wrapping_mul(0x0100_0193);
        }
        at += 1;
    }
    hash
}

/// The letters of a key, small, without what separates its words.
fn letters(key: &str) -> impl Iterator<Item = u8> {
    key.bytes().filter(|byte| !is_separator(*byte)).map(|byte| byte.to_ascii_lowercase())
}

/// Whether two keys are spellings of one name: `tool_calls`, `toolCalls`, `Tool-Calls`.
pub(super) fn is_same(key: &str, name: &str) -> bool {
    letters(key).eq(letters(name))
}

/// Whether a key at that level names such a field.
pub(super) fn may_decide(key: &str, level: Level) -> bool {
    !is_ordinary(key, level, || !decides(key, level))
}

/// Most keys are told by the number of their letters and by their first one, or by their hash.
pub(super) fn decides(key: &str, level: Level) -> bool {
    let mut bytes = key.bytes().filter(|byte| !is_separator(*byte));
    let Some(first) = bytes.next() else { return false };
    let may_be_named = || NAMED.have(first, 1 + bytes.count()) && HASHES.contains(&hash(key));
    may_be_named() && named_group(key, level).is_some() || word_group(key, level).is_some()
}

/// Whether a key at that level is one which says whether this is trained.
pub(super) fn is_flag(key: &str, level: Level) -> bool {
    named_group(key, level).is_some_and(|group| group.harmless == Harmless::Trained)
}

/// The group of a key at that level.
#[cold]
pub(super) fn group(key: &str, level: Level) -> Option<&'static Group> {
    named_group(key, level).or_else(|| word_group(key, level))
}

fn named_group(key: &str, level: Level) -> Option<&'static Group> {
    let level = of_message(level);
    GROUPS.iter().find(|group| {
        group.levels.contains(&level) && group.names.iter().any(|name| is_same(key, name))
    })
}

fn of_message(level: Level) -> Level {
    match level {
        Level::Turn | Level::Spoken => Level::Message,
        Level::Row | Level::Message | Level::Answer => level,
    }
}

/// The group of a key of several words, by its last one, and in messages also by its first.
fn word_group(key: &str, level: Level) -> Option<&'static Group> {
    let level = of_message(level);
    let key = key.trim_matches(['_', '-']);
    let bytes = key.as_bytes();
    // Words begin after a separator, and in camel case with a capital.
    let begins = |at: usize| {
        is_separator(bytes[at - 1]) && !is_separator(bytes[at])
            || bytes[at].is_ascii_uppercase() && bytes[at - 1].is_ascii_lowercase()
    };
    let last = (1..bytes.len().min(WORDY_BYTES_MAX)).rev().find(|at| begins(*at))?;
    if bytes.len() > WORDY_BYTES_MAX || level == Level::Row && is_same(key, ATTENTION_MASK) {
        return None;
    }
    let first = (1..=last).find(|at| begins(*at)).unwrap_or(last);
    let (first, last) = (key.get(..first)?.trim_end_matches(['_', '-']), key.get(last..)?);
    let may_be = |word: &str| word.bytes().next().is_some_and(|byte| WORDED.have(byte, word.len()));
    let first = Some(first).filter(|first| level == Level::Message && may_be(first));
    let last = Some(last).filter(|last| may_be(last));
    if first.is_none() && last.is_none() {
        return None;
    }
    let is_in_place = |name: &&str| {
        [first, last].into_iter().flatten().any(|word| word.eq_ignore_ascii_case(name))
    };
    WORDS.iter().find(|group| group.levels.contains(&level) && group.names.iter().any(is_in_place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_in_every_spelling_and_stands_once() {
        let names: Vec<_> = GROUPS
            .iter()
            .flat_map(|group| group.names.iter().map(|name| (*name, group.levels[0])))
            .collect();
        for (index, (name, level)) in names.iter().enumerate() {
            for key in [
                (*name).to_owned(),
                name.replace('_', ""),
                name.replace('_', "-"),
                format!("_{}__", name.to_uppercase()),
            ] {
                assert!(may_decide(&key, *level), "{key}");
            }
            assert!(names[..index].iter().all(|(other, _)| !is_same(other, name)), "{name}");
        }
        let others = ["", "_", "content", "models", "correct_answers", "tool", "system_", "\u{e9}"];
        for key in others.into_iter().chain([&*"x".repeat(64), &*"tools".repeat(9)]) {
            assert!(!may_decide(key, Level::Answer), "{key}");
        }
    }

    #[test]
    fn words_of_a_name_tell_what_it_decides() {
        for key in [
            "loss_mask",
            "attention_mask",
            "train_on_turn",
            "lossMask",
            "Experimental-Attachments",
            "a_image_",
        ] {
            assert!(may_decide(key, Level::Message), "{key}");
        }
        for key in ["sample_weight", "label_masks", "num_images", "exampleWeights"] {
            assert!(may_decide(key, Level::Row), "{key}");
        }
        for key in [
            "used_in_training",
            "attention_mask",
            "aTtention-Mask",
            "train_split",
            "mask_of_row",
            "weight_id",
        ] {
            assert!(!may_decide(key, Level::Row), "{key}");
        }
        for key in ["caption_of_it", "unmask", "role", "_", "__", "\u{e9}_\u{e9}", "lossy_text"] {
            assert!(!may_decide(key, Level::Message), "{key}");
        }
        assert!(!is_flag("train_on_turn", Level::Message));
    }

    #[test]
    fn flags_are_known_where_they_may_be() {
        assert!(is_flag("weight", Level::Row) && is_flag("Weight", Level::Message));
        assert!(is_flag("loss", Level::Message) && !is_flag("loss", Level::Row));
        assert!(!is_flag("mask", Level::Message) && !is_flag("weight", Level::Answer));
    }
}
