//! The date of templates that ask for one: `strftime_now` returns the date of the recipe, so the
//! output does not depend on the day of the run.

use minijinja::{Error, ErrorKind};

use super::python::differs;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] =
    ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// A day of the Gregorian calendar, at midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Date {
    year: u32,
    month: u32,
    day: u32,
}

impl Date {
    /// Reads `2024-07-26`.
    pub(super) fn parse(text: &str) -> Option<Date> {
        let shape = text.bytes().enumerate().all(|(index, byte)| match index {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        });
        if text.len() != 10 || !shape {
            return None;
        }
        let number = |range: std::ops::Range<usize>| text[range].parse::<u32>().ok();
        let date = Date { year: number(0..4)?, month: number(5..7)?, day: number(8..10)? };
        let is_real = (1..=12).contains(&date.month)
            && date.year > 0
            && (1..=date.days_of_month()).contains(&date.day);
        is_real.then_some(date)
    }

    fn is_leap(self) -> bool {
        self.year.is_multiple_of(4)
            && (!self.year.is_multiple_of(100) || self.year.is_multiple_of(400))
    }

    fn days_of_month(self) -> u32 {
        match self.month {
            2 => 28 + u32::from(self.is_leap()),
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        }
    }

    /// Days since the start of the year, from 1.
    fn day_of_year(self) -> u32 {
        (1..self.month).map(|month| Date { month, ..self }.days_of_month()).sum::<u32>() + self.day
    }

    /// 0 for Monday.
    fn weekday(self) -> u32 {
        let before = self.year - 1;
        (365 * before + before / 4 - before / 100 + before / 400 + self.day_of_year() - 1) % 7
    }

    /// The date as Python's `strftime` formats it in the C locale. Directives that depend on the
    /// platform are errors.
    pub(super) fn format(self, format: &str) -> Result<String, Error> {
        let (mut text, mut letters) = (String::new(), format.chars());
        while let Some(letter) = letters.next() {
            if letter != '%' {
                text.push(letter);
                continue;
            }
            let directive = letters.next();
            text.push_str(&self.directive(directive).ok_or_else(|| {
                let name = directive.map_or_else(String::new, String::from);
                differs(&format!("`%{name}` in `strftime_now`"))
            })?);
        }
        Ok(text)
    }

    fn directive(self, directive: Option<char>) -> Option<String> {
        let (month, day) = (MONTHS[self.month as usize - 1], DAYS[self.weekday() as usize]);
        Some(match directive? {
            'd' => format!("{:02}", self.day),
            'm' => format!("{:02}", self.month),
            'Y' => format!("{:04}", self.year),
            'y' => format!("{:02}", self.year % 100),
            'B' => month.to_owned(),
            'b' => month[..3].to_owned(),
            'A' => day.to_owned(),
            'a' => day[..3].to_owned(),
            'j' => format!("{:03}", self.day_of_year()),
            'F' => format!("{:04}-{:02}-{:02}", self.year, self.month, self.day),
            'H' | 'M' | 'S' => "00".to_owned(),
            '%' => "%".to_owned(),
            _ => return None,
        })
    }
}

/// What `strftime_now` returns with this date, or the error without one.
pub(super) fn strftime_now(date: Option<Date>, format: &str) -> Result<String, Error> {
    let date = date.ok_or_else(|| {
        Error::new(
            ErrorKind::InvalidOperation,
            "it calls `strftime_now`, so the output would depend on the date; set `template.date`, \
             e.g. `--set template.date=2024-07-26`",
        )
    })?;
    date.format(format)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_formatted_as_python_does() {
        let date = Date::parse("2024-07-26").expect("is a date");
        let format = |format: &str| date.format(format).expect("is supported");
        assert_eq!(format("%d %b %Y, %B %m %y"), "26 Jul 2024, July 07 24");
        assert_eq!(format("%A %a %j %F %H:%M:%S %%"), "Friday Fri 208 2024-07-26 00:00:00 %");
        assert!(date.format("%c").is_err() && date.format("%").is_err());
        let last = Date::parse("2000-12-31").expect("is a date");
        assert_eq!(last.format("%a %j").expect("is supported"), "Sun 366");
    }

    #[test]
    fn what_is_no_day_is_no_date() {
        for text in
            ["2023-02-29", "2024-13-01", "2024-7-26", "0000-01-01", "26 Jul 2024", "é024-07-2"]
        {
            assert_eq!(Date::parse(text), None, "{text}");
        }
        assert!(Date::parse("2024-02-29").is_some());
    }
}
