//! Numbers as a reader wants them: few digits, thousands separators, units.

/// Stands for what was not measured.
pub(super) const MISSING: &str = "–";

/// Keeps a number and its unit on one line.
const SPACE: char = '\u{a0}';

/// `value` rounded to `digits` significant digits, with thousands separators; powers of ten far from 1 as `1.234e9`.
pub(super) fn significant(value: f64, digits: usize) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "∞" } else { "−∞" }.to_owned();
    }
    if value == 0.0 {
        return "0".to_owned();
    }
    let rounded = format!("{value:.*e}", digits.saturating_sub(1));
    let exponent = rounded.split_once('e').and_then(|(_, exponent)| exponent.parse::<i32>().ok()).unwrap_or(0);
    if !(-4..9).contains(&exponent) {
        return rounded;
    }
    let decimals = usize::try_from(digits as i32 - 1 - exponent).unwrap_or(0);
    // Through the rounded text: 123,456 at four digits is 123,500.
    separated(&format!("{:.decimals$}", rounded.parse().unwrap_or(value)))
}

/// Thousands separators in the whole part of a decimal number.
fn separated(number: &str) -> String {
    let (whole, rest) = number.find('.').map_or((number, ""), |dot| number.split_at(dot));
    let (sign, whole) = whole.strip_prefix('-').map_or(("", whole), |whole| ("−", whole));
    let mut text = sign.to_owned();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text + rest
}

/// `134,515,008`.
pub(super) fn count(value: u64) -> String {
    separated(&value.to_string())
}

/// `134.5 M`.
pub(super) fn rough_count(value: u64) -> String {
    match value {
        0..1_000_000 => count(value),
        1_000_000..1_000_000_000 => format!("{}{SPACE}M", significant(value as f64 / 1e6, 4)),
        _ => format!("{}{SPACE}billion", significant(value as f64 / 1e9, 4)),
    }
}

/// A share as per cent with one decimal.
pub(super) fn percent(share: f64) -> String {
    if !share.is_finite() {
        return significant(share, 3);
    }
    let text = format!("{:.1}", share * 100.0);
    let text = if text == "-0.0" { "0.0" } else { &text };
    format!("{}{SPACE}%", separated(text))
}

/// Millions of bytes.
pub(super) fn megabytes(bytes: f64) -> String {
    let mega = bytes / 1e6;
    if mega.abs() < 1.0 || !mega.is_finite() {
        return format!("{}{SPACE}MB", significant(mega, 2));
    }
    format!("{}{SPACE}MB", separated(&format!("{mega:.1}")))
}

/// `1.18×`.
pub(super) fn times(ratio: f64) -> String {
    significant(ratio, 3) + "×"
}

/// Seconds, as minutes where that reads better.
pub(super) fn duration(seconds: f64) -> String {
    if !(0.0..f64::MAX).contains(&seconds) || seconds < 120.0 {
        return format!("{}{SPACE}s", significant(seconds, 3));
    }
    // Rounded before it is split, so that 179.7 s is 3 min and not 2 min 60 s.
    let whole = seconds.round() as u64;
    format!("{}{SPACE}min {}{SPACE}s", count(whole / 60), whole % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn significant_digits() {
        let cases = [
            (17.2345, 4, "17.23"),
            (9.9999, 3, "10.0"),
            (204.46, 4, "204.5"),
            (123_456.0, 4, "123,500"),
            (0.082_34, 3, "0.0823"),
            (-1234.5, 2, "−1,200"),
            (1.0, 3, "1.00"),
            (0.0, 3, "0"),
            (2.5e12, 3, "2.50e12"),
            (f64::NAN, 3, "NaN"),
            (f64::INFINITY, 3, "∞"),
        ];
        for (value, digits, expected) in cases {
            assert_eq!(significant(value, digits), expected, "{value} at {digits} digits");
        }
    }

    #[test]
    fn units() {
        assert_eq!(count(134_515_008), "134,515,008");
        assert_eq!(count(999), "999");
        assert_eq!(rough_count(134_515_008), "134.5\u{a0}M");
        assert_eq!(rough_count(7_241_732_096), "7.242\u{a0}billion");
        assert_eq!(percent(0.201_49), "20.1\u{a0}%");
        assert_eq!(percent(-0.000_01), "0.0\u{a0}%");
        assert_eq!(megabytes(98_362_432.0), "98.4\u{a0}MB");
        assert_eq!(megabytes(2_500_000_000.0), "2,500.0\u{a0}MB");
        assert_eq!(megabytes(12_345.0), "0.012\u{a0}MB");
        assert_eq!(times(1.1849), "1.18×");
        assert_eq!(duration(41.27), "41.3\u{a0}s");
        assert_eq!(duration(179.7), "3\u{a0}min 0\u{a0}s");
        assert_eq!(duration(f64::NAN), "NaN\u{a0}s");
    }
}
