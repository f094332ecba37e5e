//! Shapes of rows: how one source's JSON object becomes a [`Dialogue`]. A new shape is a file here
//! and a line in [`SHAPES`].

mod alpaca;
mod alternating;
mod answers;
mod capybara;
mod columns;
mod compared;
mod completions;
mod cursor;
mod deciding;
mod dolly;
mod fields;
mod flat;
mod hh;
mod id;
mod inputs;
mod members;
mod message;
mod messages;
mod nectar;
mod oasst;
mod object;
mod openai_pair;
mod ordinary;
mod pair;
mod place;
mod prompt;
mod prompt_completion;
mod question_answer;
mod raw;
mod refusals;
pub mod renamed;
pub mod role_words;
mod score;
mod sharegpt;
mod text_pair;
mod told;
mod transcript;
mod ultrainteract;
pub mod unread;
mod unsupported;

use columns::Columns;
use cursor::{Cursor, once, whole};
use deciding::Level;
use fields::{Wanted, check_depth, fields, row_text};
use id::Id;
use message::{Message, turns};
use role_words::RoleWords;
use unread::Unread;
use unsupported::{List, Row as Kind};

use crate::dialogue::Dialogue;
use crate::error::{Error, Result};
use crate::stage::{Code, Reason};

/// Messages in one row; more is damage or an attack.
pub const MESSAGES_MAX: usize = 1024;
/// Arrays and objects within each other; no source comes near it.
pub const DEPTH_MAX: usize = 64;
/// Rows that are looked at to tell the usual shape of a file.
const ROWS_LOOKED_AT: usize = 512;

fn not_of_shape(detail: impl Into<String>) -> Reason {
    Reason::found(Code::InvalidRow, detail)
}

/// One way a source writes its rows.
pub struct Shape {
    /// Its name in recipes.
    pub name: &'static str,
    /// The columns that tell its rows, see [`told::fits`]; each element alone is enough.
    told_by: &'static [&'static str],
    /// Whether its rows compare answers (`binarize`) or are plain dialogues (`prep`).
    pub compares: bool,
    reader: Reader,
}

/// How the rows of a shape are read.
enum Reader {
    /// By a reader that finds the columns itself, and says which of them it does not read.
    Row(fn(&[u8], &mut Unread) -> std::result::Result<Dialogue, Reason>),
    /// From its columns.
    Columns(fn(&Columns<'_>) -> std::result::Result<Dialogue, Reason>),
    /// As `Columns`, noting its words for roles.
    Speakers(fn(&Columns<'_>, &mut RoleWords) -> std::result::Result<Dialogue, Reason>),
}

impl Shape {
    /// Whether its rows have a list of messages, which needs no other column.
    fn lists_messages(&self) -> bool {
        self.told_by.iter().any(|columns| columns.contains(':'))
    }

    /// Reads one row.
    pub fn parse(&self, row: &[u8]) -> std::result::Result<Dialogue, Reason> {
        self.read(row, &mut Unread::default())
    }

    /// Reads one row, and notes the columns that are not read.
    fn read(&self, row: &[u8], unread: &mut Unread) -> std::result::Result<Dialogue, Reason> {
        unread.begin_as(self);
        match self.reader {
            Reader::Row(read) => read(row, unread),
            Reader::Columns(read) => columns::read(row, unread, |columns, _| read(columns)),
            Reader::Speakers(read) => columns::read(row, unread, read),
        }
    }

    /// As [`Shape::parse`], but refuses a row of which a part would be lost. `unread` has the columns
    /// that are not read.
    pub fn parse_whole(
        &self,
        row: &[u8],
        unread: &mut Unread,
    ) -> std::result::Result<Dialogue, Reason> {
        let dialogue = self.read(row, unread)?;
        unread.check(self, &dialogue)?;
        Ok(dialogue)
    }
}

impl std::fmt::Debug for Shape {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name)
    }
}

/// All shapes. Of two that fit a row, the earlier one is meant.
pub const SHAPES: [Shape; 24] = [
    Shape {
        name: "completions",
        told_by: &["completions:list"],
        compares: true,
        reader: Reader::Row(completions::parse),
    },
    Shape {
        name: "pair",
        told_by: &["chosen:list rejected:list"],
        compares: true,
        reader: Reader::Row(pair::parse),
    },
    Shape {
        name: "ultrainteract",
        told_by: &["trajectory:list chosen rejected"],
        compares: true,
        reader: Reader::Speakers(ultrainteract::parse),
    },
    Shape {
        name: "text_pair",
        told_by: &[
            "prompt chosen:text rejected:text",
            "question chosen:text rejected:text",
            "instruction chosen:text rejected:text",
            "input:text chosen:text rejected:text",
            "instruction chosen_response rejected_response",
            "prompt chosen_response rejected_response",
        ],
        compares: true,
        reader: Reader::Columns(text_pair::parse),
    },
    Shape {
        name: "hh",
        told_by: &["chosen:text rejected:text"],
        compares: true,
        reader: Reader::Columns(hh::parse),
    },
    Shape {
        name: "nectar",
        told_by: &["prompt answers:[rank]"],
        compares: true,
        reader: Reader::Columns(nectar::parse),
    },
    Shape {
        name: "helpsteer",
        told_by: &[
            "prompt response_1 response_2 preference_strength",
            "context response1 response2 overall_preference",
        ],
        compares: true,
        reader: Reader::Columns(compared::helpsteer),
    },
    Shape {
        name: "shp",
        told_by: &["history human_ref_A human_ref_B labels"],
        compares: true,
        reader: Reader::Columns(compared::shp),
    },
    Shape {
        name: "pku",
        told_by: &["prompt response_0 response_1 better_response_id"],
        compares: true,
        reader: Reader::Columns(compared::pku),
    },
    Shape {
        name: "openai_pair",
        told_by: &["input preferred_output non_preferred_output"],
        compares: true,
        reader: Reader::Columns(openai_pair::parse),
    },
    Shape {
        name: "oasst_ranked",
        told_by: &["message_tree_id prompt"],
        compares: true,
        reader: Reader::Speakers(oasst::ranked),
    },
    Shape {
        name: "kto",
        told_by: &["prompt completion label"],
        compares: true,
        reader: Reader::Columns(refusals::kto),
    },
    Shape {
        name: "rated",
        told_by: &["prompt response helpfulness"],
        compares: true,
        reader: Reader::Columns(refusals::rated),
    },
    Shape {
        name: "messages",
        told_by: &["messages:[role]"],
        compares: false,
        reader: Reader::Row(messages::parse),
    },
    Shape {
        name: "sharegpt",
        told_by: &[
            "conversations:list",
            "conversation:[from]",
            "conversation:[role]",
            "messages:[from]",
        ],
        compares: false,
        reader: Reader::Row(sharegpt::parse),
    },
    Shape {
        name: "capybara",
        told_by: &["conversation:[input]"],
        compares: false,
        reader: Reader::Columns(capybara::parse),
    },
    Shape {
        name: "alternating",
        told_by: &["data:list"],
        compares: false,
        reader: Reader::Row(alternating::parse),
    },
    Shape {
        name: "alpaca",
        told_by: &["instruction output", "input output"],
        compares: false,
        reader: Reader::Columns(alpaca::parse),
    },
    Shape {
        name: "dolly",
        told_by: &["instruction response"],
        compares: false,
        reader: Reader::Columns(dolly::parse),
    },
    Shape {
        name: "prompt_completion",
        told_by: &["prompt completion", "prompt response"],
        compares: false,
        reader: Reader::Columns(prompt_completion::parse),
    },
    Shape {
        name: "question_answer",
        told_by: &["question answer", "question response"],
        compares: false,
        reader: Reader::Columns(question_answer::parse),
    },
    Shape {
        name: "oasst",
        told_by: &["message_tree_id prompt"],
        compares: false,
        reader: Reader::Speakers(oasst::dialogues),
    },
    Shape {
        name: "oasst_message",
        told_by: &["message_id text role"],
        compares: false,
        reader: Reader::Columns(refusals::oasst_messages),
    },
    Shape {
        name: "text",
        told_by: &["text"],
        compares: false,
        reader: Reader::Columns(refusals::text),
    },
];

/// The names of all shapes.
#[must_use]
pub fn names() -> Vec<&'static str> {
    SHAPES.iter().map(|shape| shape.name).collect()
}

/// The shape of that name.
pub fn named(name: &str) -> Result<&'static Shape> {
    SHAPES.iter().find(|shape| shape.name == name).ok_or_else(|| {
        Error::Config(format!("unknown shape `{name}`; known: auto, {}", names().join(", ")))
    })
}

/// The shape that a row's columns tell, among those that fit the command; `None` where the row is no
/// JSON object or has no known columns.
#[must_use]
pub fn detect(row: &[u8], compares: bool) -> Option<&'static Shape> {
    Columns::of(row).ok().and_then(|row| told::shape(&row, compares))
}

/// The shape of most of the first rows of a file: its other rows are tried as this one first.
#[must_use]
pub fn usual(
    rows: impl Iterator<Item = impl AsRef<[u8]>>,
    compares: bool,
) -> Option<&'static Shape> {
    let mut counts = SHAPES.map(|_| 0_u32);
    let told = rows.take(ROWS_LOOKED_AT).filter_map(|row| detect(row.as_ref(), compares));
    for shape in told {
        counts[SHAPES.iter().position(|other| other.name == shape.name)?] += 1;
    }
    let found = SHAPES.iter().zip(counts).filter(|(_, count)| *count > 0);
    // Of equally many, the earlier shape is meant.
    found.rev().max_by_key(|(_, count)| *count).map(|(shape, _)| shape)
}

/// Reads a row by the usual shape of its file, or else by the shape that its own columns tell. Also
/// returns the shape by which it was read. `unread` has the columns that the shape does not read.
pub fn read(
    row: &[u8],
    usual: Option<&'static Shape>,
    compares: bool,
    unread: &mut Unread,
) -> (Option<&'static Shape>, std::result::Result<Dialogue, Reason>) {
    let tried = match usual.map(|shape| (shape, shape.parse_whole(row, unread))) {
        Some((shape, Ok(dialogue))) => return (Some(shape), Ok(dialogue)),
        Some((shape, Err(reason))) => Some((shape, reason)),
        None => None,
    };
    let columns = match Columns::of(row) {
        Ok(columns) => columns,
        Err(reason) => return (usual, Err(reason)),
    };
    match (tried, told::shape(&columns, compares)) {
        (Some((shape, reason)), Some(told)) if told.name == shape.name => {
            (Some(shape), Err(reason))
        }
        (_, Some(told)) => (Some(told), told.parse_whole(row, unread)),
        (Some((shape, reason)), None) if told::resembles(shape, &columns) => {
            (Some(shape), Err(reason))
        }
        (_, None) => (None, Err(told::unknown(&columns, compares))),
    }
}

/// Refuses a dialogue of too many messages.
pub(crate) fn check_count(messages: usize) -> std::result::Result<(), Reason> {
    if messages > MESSAGES_MAX {
        return Err(Reason::found(
            Code::TooManyMessages,
            format!("{messages} messages in one row; at most {MESSAGES_MAX}"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
