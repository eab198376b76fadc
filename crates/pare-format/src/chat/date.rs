//! A calendar day and its formatting for `strftime_now`. The day is given: nothing here reads the clock.

use std::fmt::Write;
use std::str::FromStr;

/// A day of the Gregorian calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Date {
    /// Year, 1 to 9999.
    pub year: u16,
    /// Month, 1 to 12.
    pub month: u8,
    /// Day of the month, from 1.
    pub day: u8,
}

/// What chat templates take for today unless a day is given: the same input gives the same prompt on any day. It is the day that the
/// template of Llama 3.1 falls back on.
pub const DAY: Date = Date { year: 2024, month: 7, day: 26 };

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
const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

impl FromStr for Date {
    type Err = String;

    /// Reads a day such as `2026-01-31`.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no day; expected one such as 2026-01-31");
        let parts: Vec<&str> = text.split('-').collect();
        let number = |part: &str, digits: usize| {
            let plain = part.len() == digits && part.bytes().all(|b| b.is_ascii_digit());
            plain.then(|| part.parse::<u16>().ok()).flatten().ok_or_else(wrong)
        };
        let [year, month, day] = parts.as_slice() else { return Err(wrong()) };
        let (year, month, day) = (number(year, 4)?, number(month, 2)?, number(day, 2)?);
        let exists = (1..=9999).contains(&year)
            && month
                .checked_sub(1)
                .and_then(|m| month_lengths(year).get(usize::from(m)).copied())
                .is_some_and(|most| (1..=most).contains(&u32::from(day)));
        match (u8::try_from(month), u8::try_from(day)) {
            (Ok(month), Ok(day)) if exists => Ok(Self { year, month, day }),
            _ => Err(wrong()),
        }
    }
}

/// Days of each month.
fn month_lengths(year: u16) -> [u32; 12] {
    let leap = (year.is_multiple_of(4) && !year.is_multiple_of(100)) || year.is_multiple_of(400);
    [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
}

impl Date {
    /// The day of a moment, in seconds since the start of 1970, in UTC. Years beyond 9999 are the last day of that year.
    #[must_use]
    pub fn of_seconds(seconds: u64) -> Self {
        let mut days = seconds / 86_400;
        for year in 1970..=9999_u16 {
            for (month, length) in (1_u8..).zip(month_lengths(year)) {
                if days < u64::from(length) {
                    return Self { year, month, day: u8::try_from(days).unwrap_or(0).saturating_add(1) };
                }
                days = days.saturating_sub(u64::from(length));
            }
        }
        Self { year: 9999, month: 12, day: 31 }
    }

    /// Days of the year before this one, in a year that may be a leap year.
    fn days_before(self) -> u32 {
        let months: u32 = month_lengths(self.year).iter().take(usize::from(self.month.clamp(1, 12)) - 1).sum();
        months + u32::from(self.day.max(1)) - 1
    }

    fn weekday(self) -> &'static str {
        let before = u32::from(self.year.max(1)) - 1;
        // 1 January of year 1 was a Monday.
        let days = before * 365 + before / 4 - before / 100 + before / 400 + self.days_before() + 1;
        WEEKDAYS[(days % 7) as usize]
    }

    /// The date in the given format; `Err` names a code that is not known. Times are midnight.
    pub(super) fn format(self, format: &str) -> Result<String, String> {
        let month = MONTHS[usize::from(self.month.clamp(1, 12)) - 1];
        let mut out = String::new();
        let mut chars = format.chars();
        while let Some(c) = chars.next() {
            if c != '%' {
                out.push(c);
                continue;
            }
            // Writing to a string cannot fail.
            let _ = match chars.next() {
                Some('d') => write!(out, "{:02}", self.day),
                Some('m') => write!(out, "{:02}", self.month),
                Some('Y') => write!(out, "{:04}", self.year),
                Some('y') => write!(out, "{:02}", self.year % 100),
                Some('j') => write!(out, "{:03}", self.days_before() + 1),
                Some('B') => write!(out, "{month}"),
                Some('b') => write!(out, "{}", month.get(..3).unwrap_or(month)),
                Some('A') => write!(out, "{}", self.weekday()),
                Some('a') => write!(out, "{}", self.weekday().get(..3).unwrap_or_default()),
                Some('H' | 'M' | 'S') => write!(out, "00"),
                Some('%') => write!(out, "%"),
                other => return Err(format!("%{}", other.map(String::from).unwrap_or_default())),
            };
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_days() {
        let day = |year, month, day| Date { year, month, day };
        assert_eq!(day(2024, 7, 26).format("%d %b %Y"), Ok("26 Jul 2024".into()));
        assert_eq!(day(2024, 12, 31).format("%A, %B %d, %j %y %%"), Ok("Tuesday, December 31, 366 24 %".into()));
        assert_eq!(day(2000, 2, 29).format("%a %m %H:%M"), Ok("Tue 02 00:00".into()));
        assert_eq!(day(1970, 1, 1).format("%A"), Ok("Thursday".into()));
        assert_eq!(day(2024, 1, 1).format("%Q"), Err("%Q".into()));
    }

    #[test]
    fn days_are_read_and_counted() {
        assert_eq!("2024-02-29".parse(), Ok(Date { year: 2024, month: 2, day: 29 }));
        for wrong in [
            "2023-02-29",
            "2024-13-01",
            "2024-00-01",
            "2024-01-00",
            "24-01-01",
            "2024-1-1",
            "2024-01-01x",
            "+024-01-01",
            "",
        ] {
            assert!(wrong.parse::<Date>().is_err(), "{wrong}");
        }
        for (seconds, day) in
            [(0, "1970-01-01"), (86_399, "1970-01-01"), (951_782_400, "2000-02-29"), (1_773_014_400, "2026-03-09")]
        {
            assert_eq!(Ok(Date::of_seconds(seconds)), day.parse());
        }
        assert_eq!(Date::of_seconds(u64::MAX).year, 9999);
    }
}
