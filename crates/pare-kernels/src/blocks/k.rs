//! The blocks of 256.

use super::plain::half_at;

/// The 6-bit scale and minimum of group `group` of 8, packed in 12 bytes.
#[inline(always)]
pub(super) fn packed_scale_and_minimum(packed: &[u8], group: usize) -> (u8, u8) {
    if group < 4 {
        (packed[group] & 0x3f, packed[group + 4] & 0x3f)
    } else {
        let low = packed[group + 4];
        ((low & 0x0f) | (packed[group - 4] >> 2 & 0x30), (low >> 4) | (packed[group] >> 2 & 0x30))
    }
}

#[inline(always)]
pub(super) fn q2(block: &[u8; 84], out: &mut [f32; 256]) {
    let (d, dmin) = (half_at(block, 80), half_at(block, 82));
    let (groups, _) = out.as_chunks_mut::<16>();
    for (group, values) in groups.iter_mut().enumerate() {
        let (scale, minimum) = (d * f32::from(block[group] & 0x0f), dmin * f32::from(block[group] >> 4));
        let shift = group / 2 % 4 * 2;
        for (value, &code) in values.iter_mut().zip(&block[16 + group / 8 * 32 + group % 2 * 16..][..16]) {
            *value = scale * f32::from(code >> shift & 3) - minimum;
        }
    }
}

/// The 6-bit scale of group `group` of 16, packed in 12 bytes: 4 low bits in the first 8, 2 high bits in the last 4.
#[inline(always)]
pub(super) fn packed_scale(packed: &[u8], group: usize) -> i8 {
    let low = packed[group % 8] >> (group / 8 * 4) & 0x0f;
    let high = packed[8 + group % 4] >> (group / 4 * 2) & 3;
    (low | high << 4) as i8 - 32
}

#[inline(always)]
pub(super) fn q3(block: &[u8; 110], out: &mut [f32; 256]) {
    let (high, codes, packed, d) = (&block[..32], &block[32..96], &block[96..108], half_at(block, 108));
    let (groups, _) = out.as_chunks_mut::<16>();
    for (group, values) in groups.iter_mut().enumerate() {
        let scale = d * f32::from(packed_scale(packed, group));
        let (half, eighth, shift) = (group % 2 * 16, group / 2, group / 2 % 4 * 2);
        let codes = &codes[group / 8 * 32 + half..][..16];
        for ((value, &code), &high) in values.iter_mut().zip(codes).zip(&high[half..]) {
            let code = code >> shift & 3 | (high >> eighth & 1) << 2;
            *value = scale * (i32::from(code) - 4) as f32;
        }
    }
}

#[inline(always)]
fn scale_and_minimum(packed: &[u8], group: usize) -> (f32, f32) {
    let (scale, minimum) = packed_scale_and_minimum(packed, group);
    (f32::from(scale), f32::from(minimum))
}

#[inline(always)]
pub(super) fn q4(block: &[u8; 144], out: &mut [f32; 256]) {
    let (d, dmin) = (half_at(block, 0), half_at(block, 2));
    let (packed, codes) = (&block[4..16], &block[16..]);
    let (groups, _) = out.as_chunks_mut::<32>();
    for (group, values) in groups.iter_mut().enumerate() {
        let (scale, minimum) = scale_and_minimum(packed, group);
        let (scale, minimum) = (d * scale, dmin * minimum);
        let shift = group % 2 * 4;
        for (value, &code) in values.iter_mut().zip(&codes[group / 2 * 32..][..32]) {
            *value = scale * f32::from(code >> shift & 0x0f) - minimum;
        }
    }
}

#[inline(always)]
pub(super) fn q5(block: &[u8; 176], out: &mut [f32; 256]) {
    let (d, dmin) = (half_at(block, 0), half_at(block, 2));
    let (packed, high, codes) = (&block[4..16], &block[16..48], &block[48..]);
    let (groups, _) = out.as_chunks_mut::<32>();
    for (group, values) in groups.iter_mut().enumerate() {
        let (scale, minimum) = scale_and_minimum(packed, group);
        let (scale, minimum) = (d * scale, dmin * minimum);
        let shift = group % 2 * 4;
        for ((value, &code), &high) in values.iter_mut().zip(&codes[group / 2 * 32..][..32]).zip(high) {
            *value = scale * f32::from((code >> shift & 0x0f) | (high >> group & 1) << 4) - minimum;
        }
    }
}

#[inline(always)]
pub(super) fn q6(block: &[u8; 210], out: &mut [f32; 256]) {
    let (low, high, scales, d) = (&block[..128], &block[128..192], &block[192..208], half_at(block, 208));
    let (groups, _) = out.as_chunks_mut::<32>();
    for (group, values) in groups.iter_mut().enumerate() {
        let (half, quarter) = (group / 4, group % 4);
        let low = &low[half * 64 + quarter % 2 * 32..][..32];
        let high = &high[half * 32..][..32];
        let (low_shift, high_shift) = (quarter / 2 * 4, quarter * 2);
        for sixteen in 0..2 {
            let scale = d * f32::from(scales[group * 2 + sixteen] as i8);
            for i in sixteen * 16..sixteen * 16 + 16 {
                let code = (low[i] >> low_shift & 0x0f) | (high[i] >> high_shift & 3) << 4;
                values[i] = scale * (i32::from(code) - 32) as f32;
            }
        }
    }
}
