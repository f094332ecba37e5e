//! Random texts on which tokenizers disagree.

/// SplitMix64: chance with a seed.
pub struct Chance(pub u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        value ^ (value >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn of<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[self.below(choices.len())]
    }

    fn character(&mut self, first: u32, last: u32) -> char {
        loop {
            if let Some(character) =
                char::from_u32(first + self.below((last - first + 1) as usize) as u32)
            {
                return character;
            }
        }
    }

    /// A text of a few pieces, each difficult in another way.
    pub fn hostile(&mut self, added: &[String]) -> String {
        let mut text = String::new();
        for _ in 0..=self.below(10) {
            self.trouble(added, &mut text);
        }
        text
    }

    fn trouble(&mut self, added: &[String], text: &mut String) {
        let times = 1 + self.below(8);
        let many = if self.below(20) == 0 { 300 } else { times };
        match self.below(22) {
            0 => (0..times).for_each(|_| text.push(self.character(0, 0x10_FFFF))),
            1 => (0..times).for_each(|_| text.push(self.character(0, 0x2FFF))),
            2 => (0..times).for_each(|_| text.push(self.character(0x3000, 0xFFFF))),
            3 => (0..times).for_each(|_| text.push(self.character(0x300, 0x36F))),
            4 => (0..times).for_each(|_| text.push(self.character(0, 0x7F))),
            5 => text.push_str(
                &self
                    .of(&[" ", "\n", "\t", "\u{2581}", "\r\n", "\u{a0}", "\u{3000}", " \n", "\n "])
                    .repeat(many),
            ),
            6 => (0..times).for_each(|_| {
                text.push_str(
                    self.of(&[" ", "\n", "\r", "\t", "\u{2581}", "\u{85}", "\u{2028}", "\u{b}"]),
                )
            }),
            7 => (0..many).for_each(|_| text.push(self.character(0x30, 0x39))),
            8 => (0..times).for_each(|_| {
                text.push_str(self.of(&["٣", "²", "½", "Ⅷ", "一", "7", "\u{1d7d8}", "𞋰", "௧"]))
            }),
            9 => text.push_str(self.of(&[
                "'s", "'LL", "'re", "'VE", "'m", "'D", "'t", "'ſ", "'S", "''", "'", "'lL", "'K",
            ])),
            10 | 11 => text.push_str(self.of(&[
                "word", " word", " The", "don", "ing", "Über", " naïve", "été", "ß", "ǅ", "ﬁ", "İ",
            ])),
            12 => text.push_str(self.of(&["👩‍👩‍👧‍👦", "👍🏽", "❤️", "🇩🇪", "\u{200d}", "\u{fe0f}", "😀"])),
            13 => text.push_str(self.of(&[
                "العربيَّة",
                "עִברִית",
                "हिन्दी",
                "ไทย",
                "한국어",
                "日本語",
                "\u{202e}",
                "\u{200f}",
                "Ελλ",
                "ру",
            ])),
            14 => text.push_str(self.of(&[
                "e\u{301}",
                "\u{1100}\u{1161}\u{11a8}",
                "\u{344}",
                "\u{2126}",
                "\u{f900}",
                "n\u{303}\u{323}",
            ])),
            15 => text.push_str(
                &self.of(&["a", "ab", "-", "=", "!?", "é", "字", "e\u{301}"]).repeat(many),
            ),
            16 => (0..times).for_each(|_| {
                text.push_str(
                    self.of(&["!", "...", "(", ")", "<", ">", "/", "|", "_", "#", "\"", "`", "--"]),
                )
            }),
            17 | 18 if !added.is_empty() => text.push_str(&added[self.below(added.len())]),
            19 if !added.is_empty() => {
                let token = &added[self.below(added.len())];
                text.extend(token.chars().take(1 + self.below(token.chars().count())));
            }
            20 => text.push_str(self.of(&[
                "<0x0A>",
                "<0xE2>",
                "<unk>",
                "<s>",
                "\u{0}",
                "\u{0}\u{0}",
                "a\u{0}",
                "\u{7f}",
                "\u{ffff}",
            ])),
            _ => (0..times).for_each(|_| text.push(self.character(0x61, 0x7A))),
        }
    }

    /// Ranges of whole characters, ascending.
    pub fn ranges(&mut self, text: &str) -> Vec<std::ops::Range<usize>> {
        let mut places: Vec<usize> =
            text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
        let keep = 1 + self.below(6);
        while places.len() > 2 * keep {
            places.remove(self.below(places.len()));
        }
        places.chunks_exact(2).map(|pair| pair[0]..pair[1]).collect()
    }
}
