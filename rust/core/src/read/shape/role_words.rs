//! Words that stand for a role of another name, as `human` of ShareGPT stands for `user`. They are
//! listed for the manifest.

use super::unread::head;

/// Words that are listed for a shape.
pub const WORDS_MAX: usize = 32;
/// Characters of a word that are listed.
const WORD_CHARS_MAX: usize = 40;

/// A word in rows of a shape, and the role that it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleWord {
    /// The name of the shape.
    pub shape: &'static str,
    /// The start of the word, which may be of any length.
    pub word: String,
    /// The name of the role.
    pub role: String,
}

/// The words of rows that are read one after the other.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct RoleWords {
    /// The shape by which this row is read.
    shape: &'static str,
    /// Words that earlier rows had.
    known: Vec<RoleWord>,
    /// Words that this row has and no earlier one had.
    new: Vec<RoleWord>,
}

impl RoleWords {
    /// Begins a row, or another attempt to read one.
    pub(super) fn begin(&mut self, shape: &'static str) {
        self.shape = shape;
        self.new.clear();
    }

    /// Notes a word of the row. It allocates nothing if an earlier row had it.
    pub(super) fn note(&mut self, word: &str, role: &str) {
        let is_it = |one: &RoleWord| one.word == word && one.shape == self.shape;
        if word != role && !self.known.iter().any(is_it) {
            self.note_unknown(word, role);
        }
    }

    #[cold]
    fn note_unknown(&mut self, word: &str, role: &str) {
        let word = head(word, WORD_CHARS_MAX);
        let is_it = |one: &RoleWord| one.word == word && one.shape == self.shape;
        let is_listed = self.known.iter().chain(&self.new).any(is_it);
        if !is_listed && self.new.len() <= WORDS_MAX {
            let (word, role) = (word.to_owned(), role.to_owned());
            self.new.push(RoleWord { shape: self.shape, word, role });
        }
    }

    /// The words that no earlier row had, once a row is read.
    pub(super) fn take_new(&mut self) -> Vec<RoleWord> {
        let room = WORDS_MAX.saturating_sub(self.known.len());
        self.known.extend(self.new.iter().take(room).cloned());
        std::mem::take(&mut self.new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words of a row, each with its role.
    fn row(words: &mut RoleWords, shape: &'static str, said: &[(&str, &str)]) -> Vec<String> {
        words.begin(shape);
        said.iter().for_each(|(word, role)| words.note(word, role));
        words.take_new().into_iter().map(|one| format!("{} {}", one.shape, one.word)).collect()
    }

    #[test]
    fn a_word_is_new_once_in_each_shape() {
        let mut words = RoleWords::default();
        let said = [("human", "user"), ("assistant", "assistant"), ("human", "user")];
        assert_eq!(row(&mut words, "sharegpt", &said), ["sharegpt human"]);
        assert!(row(&mut words, "sharegpt", &said).is_empty());
        assert_eq!(row(&mut words, "messages", &said), ["messages human"]);
        words.begin("sharegpt");
        words.note("gpt", "assistant");
        // That row could not be read.
        assert!(row(&mut words, "sharegpt", &said).is_empty());
        assert_eq!(row(&mut words, "sharegpt", &[("gpt", "assistant")]), ["sharegpt gpt"]);
    }

    #[test]
    fn words_and_their_number_are_bounded() {
        let mut words = RoleWords::default();
        let long = "ü".repeat(4_000);
        let found = row(&mut words, "s", &[(&long, "user"), (&long[..200], "user")]);
        assert_eq!(found, [format!("s {}", "ü".repeat(WORD_CHARS_MAX))]);
        let many: Vec<String> = (0..500).map(|number| format!("w{number}")).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|word| (word.as_str(), "user")).collect();
        // One more tells that there are more.
        assert_eq!(row(&mut words, "s", &many).len(), WORDS_MAX + 1);
        assert_eq!(words.known.len(), WORDS_MAX);
    }
}
