//! Ticks of an axis: few, at round numbers.

/// A place on an axis and what stands there.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tick {
    pub(super) value: f64,
    pub(super) label: String,
}

/// At most `most` multiples of 1, 2 or 5 times a power of ten, from `lo` to `hi`; none when the range is empty or not finite.
pub(super) fn linear(lo: f64, hi: f64, most: usize) -> Vec<Tick> {
    let range = hi - lo;
    if !(range.is_finite() && range > 0.0 && most > 0) {
        return Vec::new();
    }
    let mut exponent = (range / most as f64).log10().floor() as i32;
    loop {
        for mantissa in [1.0, 2.0, 5.0] {
            let step = mantissa * 10f64.powi(exponent);
            let (first, last) = ((lo / step).ceil(), (hi / step).floor());
            if last - first < most as f64 {
                let decimals = usize::try_from(-exponent).unwrap_or(0);
                // Whole numbers below 2^53 are counted without rounding; larger ones have no step that could be seen.
                let count = (last - first).max(-1.0) as i64;
                let tick = |index: i64| {
                    let value = (first + index as f64) * step;
                    let label = format!("{value:.decimals$}").replace('-', "−");
                    Tick { value, label }
                };
                return (0..=count).map(tick).collect();
            }
        }
        exponent += 1;
    }
}

/// At most `most` powers of ten, with 2 and 5 times them where there is room, from `lo` to `hi`, both above 0. A range without two of
/// them has ticks as on a linear axis.
pub(super) fn logarithmic(lo: f64, hi: f64, most: usize) -> Vec<Tick> {
    if !(lo > 0.0 && hi > lo && hi.is_finite() && most > 0) {
        return Vec::new();
    }
    let decades = lo.log10().floor() as i32..=hi.log10().ceil() as i32;
    let at = |mantissas: &[u32], every: i32| -> Vec<Tick> {
        let exponents = decades.clone().filter(|exponent| exponent.rem_euclid(every) == 0);
        exponents
            .flat_map(|exponent| mantissas.iter().map(move |&mantissa| power(mantissa, exponent)))
            .filter(|tick| tick.value >= lo && tick.value <= hi)
            .collect()
    };
    let choices = [&[1, 2, 5][..], &[1, 3], &[1]].map(|mantissas| at(mantissas, 1));
    if choices[0].len() < 2 {
        return linear(lo, hi, most);
    }
    if let Some(ticks) = choices.into_iter().find(|ticks| ticks.len() <= most) {
        return ticks;
    }
    (2..).map(|every| at(&[1], every)).find(|ticks| ticks.len() <= most).unwrap_or_default()
}

/// `mantissa` times ten to the `exponent`, as near as a number can be.
fn power(mantissa: u32, exponent: i32) -> Tick {
    let short = format!("{mantissa}e{exponent}");
    let value = short.parse().unwrap_or(f64::NAN);
    let label = if (-4..6).contains(&exponent) { format!("{value}") } else { short.replace('-', "−") };
    Tick { value, label }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(ticks: &[Tick]) -> Vec<&str> {
        ticks.iter().map(|tick| tick.label.as_str()).collect()
    }

    #[test]
    fn linear_ticks_by_hand() {
        assert_eq!(labels(&linear(0.0, 10.0, 6)), ["0", "2", "4", "6", "8", "10"]);
        assert_eq!(labels(&linear(181.0, 269.0, 6)), ["200", "220", "240", "260"]);
        assert_eq!(labels(&linear(-0.07, 0.1, 4)), ["−0.05", "0.00", "0.05", "0.10"]);
        assert_eq!(labels(&linear(1.234, 1.236, 3)), ["1.234", "1.235", "1.236"]);
        assert_eq!(labels(&linear(0.0, 3e9, 3)), ["0", "2000000000"]);
        for bad in [(1.0, 1.0), (2.0, 1.0), (f64::NAN, 1.0), (0.0, f64::INFINITY)] {
            assert!(linear(bad.0, bad.1, 5).is_empty(), "{bad:?}");
        }
    }

    #[test]
    fn logarithmic_ticks_by_hand() {
        assert_eq!(labels(&logarithmic(0.009, 0.6, 8)), ["0.01", "0.02", "0.05", "0.1", "0.2", "0.5"]);
        assert_eq!(labels(&logarithmic(0.009, 0.6, 4)), ["0.01", "0.03", "0.1", "0.3"]);
        assert_eq!(labels(&logarithmic(1e-6, 10.0, 9)), ["1e−6", "1e−5", "0.0001", "0.001", "0.01", "0.1", "1", "10"]);
        assert_eq!(labels(&logarithmic(1e-6, 10.0, 4)), ["1e−6", "0.0001", "0.01", "1"]);
        assert_eq!(labels(&logarithmic(1e-6, 10.0, 3)), ["1e−6", "0.001", "1"]);
        assert_eq!(labels(&logarithmic(0.21, 0.31, 5)), ["0.22", "0.24", "0.26", "0.28", "0.30"]);
        for bad in [(0.0, 1.0), (-1.0, 1.0), (1.0, 1.0), (1.0, f64::INFINITY), (f64::NAN, 1.0)] {
            assert!(logarithmic(bad.0, bad.1, 5).is_empty(), "{bad:?}");
        }
    }

    #[test]
    fn ticks_are_inside_ascending_and_not_too_many() {
        for exponent in -12..12 {
            for (low, high) in [(1.0, 1.001), (1.3, 1.9), (1.0, 9.0), (2.0, 70.0), (1.0, 1e7)] {
                let (lo, hi) = (low * 10f64.powi(exponent), high * 10f64.powi(exponent));
                for ticks in [linear(lo, hi, 6), logarithmic(lo, hi, 6)] {
                    assert!((1..=6).contains(&ticks.len()), "{lo} to {hi}: {ticks:?}");
                    assert!(ticks.windows(2).all(|pair| pair[0].value < pair[1].value), "{ticks:?}");
                    let slack = 1e-9 * hi;
                    assert!(ticks.iter().all(|tick| tick.value >= lo - slack && tick.value <= hi + slack));
                    let mut labels = labels(&ticks);
                    labels.dedup();
                    assert_eq!(labels.len(), ticks.len(), "{ticks:?}");
                }
            }
        }
    }
}
