//! Weights that another tool quantised: GPTQ, AWQ, compressed-tensors, FP8. Integers whose scales f16 holds become blocks of GGUF, value for
//! value; everything else is decoded when it is used.

use super::{element, wrong_shape};
use crate::storage::{Code, Element, Groups, Scaled, Stored};
use crate::weight::Weight;
use pare_format::config::Packing;
use pare_format::directory::ModelDirectory;
use pare_format::map::Bytes;
use pare_format::safetensors::{Dtype, TensorView};
use pare_format::{FormatError, FormatErrorKind, Result};
use pare_kernels::blocks::{BlockType, Line};
use std::sync::Arc;

/// Outputs that are unpacked at a time, so that a line of the cache is read once.
const TOGETHER: usize = 32;
/// The place in a word of the code of each of 8 neighbouring outputs (AWQ).
const INTERLEAVED: [usize; 8] = [0, 4, 1, 5, 2, 6, 3, 7];

/// The weight `name` of `shape`, packed as `packing` says; `group` inputs share a scale.
pub(super) fn weight(
    directory: &ModelDirectory,
    name: &str,
    packing: Packing,
    group: Option<usize>,
    shape: [usize; 2],
) -> Result<Arc<dyn Weight>> {
    let module = name.strip_suffix("weight").unwrap_or(name);
    let parts = Parts { directory, module, shape, group: group.unwrap_or(shape[1]).max(1) };
    match packing {
        Packing::Gptq { bits, zero_offset } => parts.gptq(bits, zero_offset),
        Packing::Awq => parts.awq(),
        Packing::Packed { bits } => parts.packed(bits),
        Packing::Int8 => parts.int8(),
        Packing::Float8 { block } => parts.float8(block),
    }
}

struct Parts<'a> {
    directory: &'a ModelDirectory,
    /// The name up to the dot before its parts.
    module: &'a str,
    shape: [usize; 2],
    group: usize,
}

/// 32-bit words `[rows, columns]`.
struct Words {
    view: TensorView,
    columns: usize,
}

impl Words {
    fn at(&self, row: usize, column: usize) -> u32 {
        let at = (row * self.columns + column) * 4;
        self.view.bytes.get(at..at + 4).and_then(|raw| raw.try_into().ok()).map_or(0, u32::from_le_bytes)
    }
}

/// Code `index` of `bits` bits in a row of words, the first in the lowest bits; codes may cross from one word to the next.
fn code(word: impl Fn(usize) -> u32, index: usize, bits: usize) -> i32 {
    let (first, shift) = (index * bits / 32, index * bits % 32);
    let mut value = u64::from(word(first)) >> shift;
    if shift + bits > 32 {
        value |= u64::from(word(first + 1)) << (32 - shift);
    }
    (value & ((1 << bits) - 1)) as i32
}

/// Integers `[out, in]` less their zero points, and the scales `[out, columns]`.
struct Ints {
    codes: Vec<u8>,
    scales: Vec<f32>,
    groups: Groups,
}

impl Parts<'_> {
    fn gptq(&self, bits: usize, zero_offset: i32) -> Result<Arc<dyn Weight>> {
        let [out, inn] = self.shape;
        let columns = inn.div_ceil(self.group);
        let packed = self.words("qweight", [(inn * bits).div_ceil(32), out])?;
        let zeros = self.words("qzeros", [columns, (out * bits).div_ceil(32)])?;
        let scales = self.transposed("scales", [columns, out])?;
        let groups = self.groups("g_idx", columns)?;
        let zero = |o: usize, group: usize| code(|word| zeros.at(group, word), o, bits) + zero_offset;
        let value = |o: usize, i: usize| code(|word| packed.at(word, o), i, bits);
        self.finish(self.ints("qweight", scales, groups, value, zero)?)
    }

    fn awq(&self) -> Result<Arc<dyn Weight>> {
        let [out, inn] = self.shape;
        let columns = inn.div_ceil(self.group);
        let packed = self.words("qweight", [inn, out.div_ceil(8)])?;
        let zeros = self.words("qzeros", [columns, out.div_ceil(8)])?;
        let scales = self.transposed("scales", [columns, out])?;
        let nibble =
            |words: &Words, row: usize, o: usize| (words.at(row, o / 8) >> (4 * INTERLEAVED[o % 8]) & 0x0f) as i32;
        let zero = |o: usize, group: usize| nibble(&zeros, group, o);
        let value = |o: usize, i: usize| nibble(&packed, i, o);
        self.finish(self.ints("qweight", scales, Groups::Width(self.group), value, zero)?)
    }

    fn packed(&self, bits: usize) -> Result<Arc<dyn Weight>> {
        let [out, inn] = self.shape;
        self.check_declared()?;
        let packed = self.words("weight_packed", [out, (inn * bits).div_ceil(32)])?;
        let (scales, groups) = self.scales_of_rows("weight_scale")?;
        let columns = scales.len() / out.max(1);
        let groups = match self.there("weight_g_idx") {
            true => self.groups("weight_g_idx", columns)?,
            false => groups,
        };
        let zeros = match self.there("weight_zero_point") {
            true => Some(self.words("weight_zero_point", [(out * bits).div_ceil(32), columns])?),
            false => None,
        };
        // Codes and zero points are both raised by half of the range, which is the zero point where there is none.
        let zero = |o: usize, group: usize| match &zeros {
            Some(zeros) => code(|word| zeros.at(word, group), o, bits),
            None => 1 << (bits - 1),
        };
        let value = |o: usize, i: usize| code(|word| packed.at(o, word), i, bits);
        self.finish(self.ints("weight_packed", scales, groups, value, zero)?)
    }

    fn int8(&self) -> Result<Arc<dyn Weight>> {
        let [out, inn] = self.shape;
        let codes = self.tensor("weight", &[Dtype::I8], &[out, inn])?;
        let (scales, groups) = self.scales_of_rows("weight_scale")?;
        let columns = scales.len() / out.max(1);
        let zeros = match self.there("weight_zero_point") {
            true => Some(self.numbers("weight_zero_point", &[Dtype::I8], out * columns)?),
            false => None,
        };
        let zero = |o: usize, group: usize| {
            let zeros = zeros.as_ref().map(|view| &*view.bytes);
            zeros.and_then(|zeros| zeros.get(o * columns + group)).map_or(0, |zero| i32::from(*zero as i8))
        };
        let value = |o: usize, i: usize| codes.bytes.get(o * inn + i).map_or(0, |code| i32::from(*code as i8));
        self.finish(self.ints("weight", scales, groups, value, zero)?)
    }

    fn float8(&self, block: Option<[usize; 2]>) -> Result<Arc<dyn Weight>> {
        let [out, inn] = self.shape;
        let codes = self.tensor("weight", &[Dtype::F8_E4M3], &[out, inn])?;
        let part = if self.there("weight_scale_inv") { "weight_scale_inv" } else { "weight_scale" };
        let (scales, rows, width) = match block {
            Some([rows, columns]) => {
                let shape = [out.div_ceil(rows), inn.div_ceil(columns)];
                let view = self.tensor(part, &[Dtype::F32, Dtype::BF16, Dtype::F16], &shape)?;
                (self.decoded(&view, part)?, rows, columns)
            }
            None => {
                let (scales, groups) = self.scales_of_rows(part)?;
                let Groups::Width(width) = groups else { return Err(self.broken(part)) };
                (scales, 1, width)
            }
        };
        let weight =
            Scaled::new(Code::E4m3, self.shape, codes.bytes.clone(), scales.into(), rows, Groups::Width(width));
        Ok(Arc::new(weight.ok_or_else(|| self.broken(part))?))
    }

    /// The codes less their zero points.
    fn ints(
        &self,
        part: &str,
        scales: Vec<f32>,
        groups: Groups,
        value: impl Fn(usize, usize) -> i32,
        zero: impl Fn(usize, usize) -> i32,
    ) -> Result<Ints> {
        let [out, inn] = self.shape;
        let columns = scales.len() / out.max(1);
        let group_of = |i: usize| match &groups {
            Groups::Width(width) => i / width,
            Groups::Index(index) => index[i] as usize,
        };
        let mut codes = vec![0; out * inn];
        let mut zeros = vec![0; TOGETHER * columns];
        let mut fits = true;
        for first in (0..out).step_by(TOGETHER) {
            let outputs = TOGETHER.min(out - first);
            for o in 0..outputs {
                for group in 0..columns {
                    zeros[o * columns + group] = zero(first + o, group);
                }
            }
            for i in 0..inn {
                let group = group_of(i);
                for o in 0..outputs {
                    let code = i8::try_from(value(first + o, i) - zeros[o * columns + group]);
                    fits &= code.is_ok();
                    codes[(first + o) * inn + i] = code.unwrap_or(0) as u8;
                }
            }
        }
        if fits {
            return Ok(Ints { codes, scales, groups });
        }
        let expected = "codes that lie within 8 signed bits of their zero points";
        Err(self.wrong(part, "holds a code further than that from its zero point", expected))
    }

    /// Blocks where every scale is one, else codes as they are.
    fn finish(&self, ints: Ints) -> Result<Arc<dyn Weight>> {
        if let Some(stored) = self.blocks(&ints) {
            return Ok(Arc::new(stored));
        }
        let weight = Scaled::new(Code::Int8, self.shape, ints.codes.into(), ints.scales.into(), 1, ints.groups);
        Ok(Arc::new(weight.ok_or_else(|| self.broken("scales"))?))
    }

    /// The same values in blocks of the smallest type that holds all codes; none when a scale is no f16 or a block has several.
    fn blocks(&self, ints: &Ints) -> Option<Stored> {
        let [out, inn] = self.shape;
        let columns = ints.scales.len() / out.max(1);
        let Groups::Width(width) = ints.groups else { return None };
        let whole = inn.is_multiple_of(32) && (width.is_multiple_of(32) || columns == 1);
        let is_half =
            |scale: &f32| scale.is_finite() && half::f16::from_f32(*scale).to_f32().to_bits() == scale.to_bits();
        if !whole || !ints.scales.iter().all(is_half) {
            return None;
        }
        let within = |least: i8, most: i8| ints.codes.iter().all(|code| (least..=most).contains(&(*code as i8)));
        let ty = match (within(-8, 7), within(-16, 15)) {
            (true, _) => BlockType::Q4_0,
            (_, true) => BlockType::Q5_0,
            _ => BlockType::Q8_0,
        };
        let empty = ty.scales(&[0.0; 32], &[1.0; 32]);
        let mut bytes = vec![0; out * (inn / 32) * ty.bytes_per_block()];
        let blocks = bytes.chunks_exact_mut(ty.bytes_per_block());
        for (index, (codes, block)) in ints.codes.chunks_exact(32).zip(blocks).enumerate() {
            let (row, column) = (index / (inn / 32), index % (inn / 32) * 32);
            let step = ints.scales[row * columns + column / width];
            let mut raised = [0; 32];
            for (raised, code) in raised.iter_mut().zip(codes) {
                *raised = (i32::from(*code as i8) + ty.middle()) as u8;
            }
            ty.pack(&raised, &empty.with_line(ty, 0, Line { step, offset: 0.0 }), block);
        }
        Stored::new(Element::Block(ty), self.shape, Bytes::from(bytes))
    }

    /// Scales of rows `[out, columns]`, from one number for the matrix, one for each row, or one for each group of a row.
    fn scales_of_rows(&self, part: &str) -> Result<(Vec<f32>, Groups)> {
        let [out, inn] = self.shape;
        let view = self.directory.require(&self.named(part))?;
        let columns = inn.div_ceil(self.group);
        let floats = [Dtype::F32, Dtype::BF16, Dtype::F16];
        if !floats.contains(&view.dtype) {
            return Err(self.wrong(part, &format!("is of dtype {}", view.dtype), "F32, BF16 or F16"));
        }
        match view.shape.as_slice() {
            [] | [1] | [1, 1] => {
                let scale = self.decoded(&view, part)?.first().copied().unwrap_or(0.0);
                Ok((vec![scale; out], Groups::Width(inn)))
            }
            shape if shape == [out] || shape == [out, 1] => Ok((self.decoded(&view, part)?, Groups::Width(inn))),
            shape if shape == [out, columns] => Ok((self.decoded(&view, part)?, Groups::Width(self.group))),
            shape => {
                let expected = format!("[{out}, {columns}], one number for each row, or one for all");
                Err(self.wrong(part, &format!("has shape {shape:?}"), &expected))
            }
        }
    }

    /// The scales `[columns, out]` of the file as `[out, columns]`.
    fn transposed(&self, part: &str, [columns, out]: [usize; 2]) -> Result<Vec<f32>> {
        let view = self.tensor(part, &[Dtype::F16, Dtype::BF16, Dtype::F32], &[columns, out])?;
        let values = self.decoded(&view, part)?;
        Ok((0..out)
            .flat_map(|o| (0..columns).map(move |group| (o, group)))
            .map(|(o, group)| values[group * out + o])
            .collect())
    }

    /// The group of each input, when the file says it; neighbours otherwise, and where it says just that.
    fn groups(&self, part: &str, columns: usize) -> Result<Groups> {
        if !self.there(part) {
            return Ok(Groups::Width(self.group));
        }
        let inn = self.shape[1];
        let view = self.tensor(part, &[Dtype::I32, Dtype::I64], &[inn])?;
        let index = view.bytes.chunks_exact(view.bytes.len() / inn.max(1)).map(|raw| match *raw {
            [a, b, c, d] => i64::from(i32::from_le_bytes([a, b, c, d])),
            [a, b, c, d, e, f, g, h] => i64::from_le_bytes([a, b, c, d, e, f, g, h]),
            _ => -1,
        });
        let index: Option<Vec<u32>> =
            index.map(|group| u32::try_from(group).ok().filter(|group| (*group as usize) < columns)).collect();
        let index =
            index.ok_or_else(|| self.wrong(part, "holds a number of no group", &format!("0 to {}", columns - 1)))?;
        let neighbours = index.iter().enumerate().all(|(i, group)| i / self.group == *group as usize);
        Ok(if neighbours { Groups::Width(self.group) } else { Groups::Index(index.into()) })
    }

    /// `weight_shape` says what config.json says.
    fn check_declared(&self) -> Result<()> {
        let part = "weight_shape";
        let view = self.numbers(part, &[Dtype::I64, Dtype::I32], 2)?;
        let sides: Vec<i64> = match view.dtype {
            Dtype::I64 => view.bytes.as_chunks::<8>().0.iter().map(|raw| i64::from_le_bytes(*raw)).collect(),
            _ => view.bytes.as_chunks::<4>().0.iter().map(|raw| i64::from(i32::from_le_bytes(*raw))).collect(),
        };
        let expected = self.shape.map(|side| side as i64);
        if sides == expected {
            return Ok(());
        }
        Err(self.wrong(part, &format!("says {sides:?}"), &format!("{expected:?}, as config.json says")))
    }

    fn words(&self, part: &str, shape: [usize; 2]) -> Result<Words> {
        let view = self.tensor(part, &[Dtype::I32, Dtype::U32], &shape)?;
        Ok(Words { view, columns: shape[1] })
    }

    /// A tensor of `count` numbers, of any shape.
    fn numbers(&self, part: &str, dtypes: &[Dtype], count: usize) -> Result<TensorView> {
        let view = self.directory.require(&self.named(part))?;
        if view.bytes.len() as u64 * 8 != count as u64 * view.dtype.bits() {
            return Err(self.wrong(part, &format!("has shape {:?}", view.shape), &format!("{count} numbers")));
        }
        let shape = view.shape;
        self.tensor(part, dtypes, &shape)
    }

    fn tensor(&self, part: &str, dtypes: &[Dtype], shape: &[usize]) -> Result<TensorView> {
        let name = self.named(part);
        let view = self.directory.require(&name)?;
        if !dtypes.contains(&view.dtype) {
            let expected = dtypes.iter().map(|dtype| dtype.name()).collect::<Vec<_>>().join(" or ");
            return Err(self.wrong(part, &format!("is of dtype {}", view.dtype), &expected));
        }
        if view.shape == shape { Ok(view) } else { Err(wrong_shape(&view, &name, shape)) }
    }

    fn decoded(&self, view: &TensorView, part: &str) -> Result<Vec<f32>> {
        let name = self.named(part);
        let element = element(view, &name)?;
        let mut values = vec![0.0; view.bytes.len() / (view.dtype.bits() as usize / 8)];
        let stored = Stored::new(element, [1, values.len()], view.bytes.clone());
        stored.ok_or_else(|| wrong_shape(view, &name, &view.shape))?.decode_row(0, &mut values);
        Ok(values)
    }

    fn there(&self, part: &str) -> bool {
        self.directory.info(&self.named(part)).is_some()
    }

    fn named(&self, part: &str) -> String {
        format!("{}{part}", self.module)
    }

    fn broken(&self, part: &str) -> FormatError {
        self.wrong(part, "does not fit the codes", "a scale for every code")
    }

    fn wrong(&self, part: &str, found: &str, expected: &str) -> FormatError {
        let name = self.named(part);
        let file = self.directory.info(&name).map_or(self.directory.path(), |(shard, _)| shard.path());
        let kind = FormatErrorKind::Found { found: found.to_owned(), expected: expected.to_owned() };
        FormatError::new(file, kind).item(format!("tensor {name:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_cross_words() {
        // Eleven 3-bit codes 0, 1, 2, ...: the eleventh begins at bit 30.
        let bits: u64 = (0..11u64).fold(0, |bits, i| bits | (i % 8) << (3 * i));
        let word = |index: usize| (bits >> (32 * index)) as u32;
        assert_eq!((0..11).map(|i| code(word, i, 3)).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2]);
    }
}
