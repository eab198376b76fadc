//! Grids of values with a step per group of inputs, zero among them: what rounding inside a removal needs.

use crate::error::MethodError;
use crate::settings::Settings;
use pare_kernels::blocks::RowType;

/// Inputs that share a step in the blocks of GGUF.
const BLOCK: usize = 32;

/// Symmetric codes with one step for `group` neighbouring inputs of a row; code 0 is exactly 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Grid {
    group: usize,
    /// The lowest and the highest code.
    codes: [f32; 2],
    /// Whether the step is one that f16 holds, as in a file.
    halved: bool,
    name: Option<&'static str>,
}

impl Grid {
    /// The grid that `type`, or `bits` and `group`, ask for; none when none of them is set.
    ///
    /// # Errors
    /// `Params` for a type without a code for zero, or for values out of range.
    pub(crate) fn from_settings(settings: &Settings) -> Result<Option<Self>, MethodError> {
        if let Some(name) = settings.storage.as_deref() {
            if settings.bits.is_some() || settings.group.is_some() {
                let why = format!("{name:?} together with bits or group, expected one or the other");
                return Err(MethodError::Params { key: "type", why });
            }
            let known = [("q4_0", [-8.0, 7.0]), ("q5_0", [-16.0, 15.0]), ("q8_0", [-127.0, 127.0])];
            let Some(&(name, codes)) = known.iter().find(|(known, _)| *known == name) else {
                let why = format!("{name:?}, expected q4_0, q5_0 or q8_0, whose codes hold zero");
                return Err(MethodError::Params { key: "type", why });
            };
            return Ok(Some(Self { group: BLOCK, codes, halved: true, name: Some(name) }));
        }
        if settings.bits.is_none() && settings.group.is_none() {
            return Ok(None);
        }
        let (bits, group) = (settings.bits.unwrap_or(4), settings.group.unwrap_or(BLOCK));
        if !(2..=8).contains(&bits) {
            return Err(MethodError::Params { key: "bits", why: format!("{bits}, expected 2..=8") });
        }
        if group == 0 {
            return Err(MethodError::Params { key: "group", why: "0, expected at least 1".into() });
        }
        let most = ((1_u32 << (bits - 1)) - 1) as f32;
        Ok(Some(Self { group, codes: [-most, most], halved: false, name: None }))
    }

    /// Inputs that share a step.
    pub(crate) fn group(&self) -> usize {
        self.group
    }

    /// The name of the blocks that it is the grid of, when their rows must be whole blocks.
    pub(crate) fn blocks(&self) -> Option<&'static str> {
        self.name
    }

    /// The step for a group whose value of the largest magnitude is `extreme`.
    pub(crate) fn step(&self, extreme: f32) -> f32 {
        // Where there is one code more below zero than above, it goes to the extreme, whatever its sign.
        let step = if -self.codes[0] > self.codes[1] { extreme / self.codes[0] } else { extreme.abs() / self.codes[1] };
        if !self.halved {
            return step;
        }
        let (mut bytes, mut half) = ([0; 2], [0.0]);
        RowType::F16.encode(&[step], &mut bytes);
        RowType::F16.decode(&bytes, &mut half);
        half[0]
    }

    /// The value of the grid nearest to `value`.
    pub(crate) fn round(&self, value: f32, step: f32) -> f32 {
        if step == 0.0 {
            return 0.0;
        }
        // Adding zero makes -0.0 and 0.0 one.
        (value / step).round().clamp(self.codes[0], self.codes[1]) * step + 0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid(storage: Option<&str>, bits: Option<u32>, group: Option<usize>) -> Result<Option<Grid>, MethodError> {
        Grid::from_settings(&Settings { storage: storage.map(str::to_owned), bits, group, ..Settings::default() })
    }

    #[test]
    fn steps_and_codes_by_hand() {
        let grid = |storage, bits| super::tests::grid(storage, bits, None).unwrap().unwrap();
        let q4 = grid(Some("q4_0"), None);
        assert_eq!(q4.step(-4.0), 0.5);
        assert_eq!(q4.step(4.0), -0.5);
        // The extreme has a code of its own; its mirror image has not.
        assert_eq!([4.0, -4.0, 0.3, 0.2, -0.0].map(|value| q4.round(value, -0.5)), [4.0, -3.5, 0.5, 0.0, 0.0]);
        assert!(q4.round(0.1, -0.5).is_sign_positive());
        let three = grid(None, Some(3));
        assert_eq!(three.step(-1.5), 0.5);
        assert_eq!([-1.5, 0.8, 9.0].map(|value| three.round(value, 0.5)), [-1.5, 1.0, 1.5]);
        assert_eq!(three.round(1.0, 0.0), 0.0);
        // 1/127 is not a half.
        assert_eq!(grid(Some("q8_0"), None).step(1.0), 0.007_873_535);
    }

    #[test]
    fn refuses() {
        let refusal = |storage, bits, group| grid(storage, bits, group).unwrap_err().to_string();
        assert_eq!(
            refusal(Some("q4_1"), None, None),
            "parameter type: \"q4_1\", expected q4_0, q5_0 or q8_0, whose codes hold zero"
        );
        assert_eq!(
            refusal(Some("q4_0"), Some(4), None),
            "parameter type: \"q4_0\" together with bits or group, expected one or the other"
        );
        assert_eq!(refusal(None, Some(1), None), "parameter bits: 1, expected 2..=8");
        assert_eq!(refusal(None, None, Some(0)), "parameter group: 0, expected at least 1");
        assert_eq!(grid(None, None, None), Ok(None));
    }
}
