//! A calendar day and its formatting for `strftime_now`. The day is given: nothing here reads the clock.

use std::fmt::Write;

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

impl Date {
    /// Days of the year before this one, in a year that may be a leap year.
    fn days_before(self) -> u32 {
        let leap = (self.year.is_multiple_of(4) && !self.year.is_multiple_of(100)) || self.year.is_multiple_of(400);
        let lengths = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let months: u32 = lengths.iter().take(usize::from(self.month.clamp(1, 12)) - 1).sum();
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
}
