use super::*;
use crate::reference::numbers;

/// Values, then the bytes of every type of 32, as `goldens/blocks/encode.py` writes them.
const GOLDEN: &[u8] = include_bytes!("../../../../../goldens/blocks/encode.bin");

const K: [BlockType; 3] = [BlockType::Q4K, BlockType::Q5K, BlockType::Q6K];

fn encode(ty: BlockType, values: &[f32]) -> Vec<u8> {
    let mut bytes = vec![0xa5; values.len() / ty.values_per_block() * ty.bytes_per_block()];
    ty.encode(values, &mut bytes);
    bytes
}

fn decode(ty: BlockType, bytes: &[u8]) -> Vec<f32> {
    let mut values = vec![f32::NAN; bytes.len() / ty.bytes_per_block() * ty.values_per_block()];
    ty.decode(bytes, &mut values);
    values
}

/// Values as weights have them: many small, few large, groups of different sizes.
fn weights(seed: u64, blocks: usize) -> Vec<f32> {
    let (a, b, sizes) = (numbers(seed, blocks * 256), numbers(seed + 1, blocks * 256), numbers(seed + 2, blocks * 8));
    (0..blocks * 256).map(|i| (a[i] + b[i].powi(5)) * 0.03 * (sizes[i / 32] * 1.5).exp()).collect()
}

#[test]
fn blocks_of_32_are_the_golden_ones_bit_for_bit() {
    let types = [BlockType::Q4_0, BlockType::Q4_1, BlockType::Q5_0, BlockType::Q5_1, BlockType::Q8_0];
    let each = 32 * 4 + types.iter().map(|ty| ty.bytes_per_block()).sum::<usize>();
    let blocks = GOLDEN.len() / each;
    assert!(blocks > 0 && GOLDEN.len() == blocks * each);
    let (values, mut rest) = GOLDEN.split_at(blocks * 32 * 4);
    let values: Vec<f32> = values.as_chunks::<4>().0.iter().map(|v| f32::from_le_bytes(*v)).collect();
    for ty in types {
        let (expected, after) = rest.split_at(blocks * ty.bytes_per_block());
        rest = after;
        for isa in Isa::available() {
            let mut found = vec![0xa5; expected.len()];
            encode_on(isa, ty, &values, &mut found);
            assert!(found == expected, "{} on {}", ty.name(), isa.name());
        }
    }
}

#[test]
fn every_instruction_set_finds_the_same_blocks() {
    let values = weights(7, 16);
    for ty in K {
        let expected = encode(ty, &values);
        for isa in Isa::available() {
            let mut found = vec![0; expected.len()];
            encode_on(isa, ty, &values, &mut found);
            assert!(found == expected, "{} on {}", ty.name(), isa.name());
        }
    }
}

#[test]
fn what_a_block_can_hold_comes_back_exactly() {
    // Every type has these 16 numbers on one of its grids.
    let values: Vec<f32> = (0..256).map(|i| ((i * 7 % 16) as f32 - 8.0) * 0.25).collect();
    for ty in BlockType::ALL {
        let off = values.iter().zip(decode(ty, &encode(ty, &values))).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        let exact = matches!(ty, BlockType::Q4_0 | BlockType::Q4_1 | BlockType::Q5_0 | BlockType::Q5_1);
        // Scales of 6 or 8 bits, of 7 for the largest of Q8_0: a few parts in a hundred of a step at most.
        assert!(off <= if exact { 0.08 } else { 0.02 }, "{} is off by {off}", ty.name());
    }
    for ty in BlockType::ALL {
        assert!(decode(ty, &encode(ty, &[0.0; 256])).iter().all(|&v| v == 0.0), "{} of zeros", ty.name());
    }
}

/// Weighted squared error against `values`, with the weights that the search uses.
fn error(ty: BlockType, values: &[f32], found: &[f32]) -> f64 {
    let mut total = 0.0;
    for (x, y) in values.chunks(32).zip(found.chunks(32)) {
        let floor = (x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / 32.0).sqrt();
        for (&x, &y) in x.iter().zip(y) {
            let (x, y) = (f64::from(x), f64::from(y));
            let weight = if ty == BlockType::Q6K { x * x } else { floor + x.abs() };
            total += weight * (x - y).powi(2);
        }
    }
    total
}

/// Round to nearest between the extremes of each group, with the group's scales rounded to what the block holds.
fn plain(ty: BlockType, block: &[f32]) -> Vec<f32> {
    if ty == BlockType::Q6K {
        let scales: Vec<f32> = block
            .chunks(16)
            .map(|x| x.iter().fold(0.0f32, |m, &v| if v.abs() > m.abs() { v } else { m }) / -32.0)
            .collect();
        let most = scales.iter().fold(0.0f32, |m, &s| if s.abs() > m.abs() { s } else { m });
        let d = halved(most / -128.0);
        let value = |i: usize| {
            let scale = d * (scales[i / 16] / d).round().clamp(-128.0, 127.0);
            if scale == 0.0 { 0.0 } else { scale * (block[i] / scale).round().clamp(-32.0, 31.0) }
        };
        return (0..256).map(value).collect();
    }
    let top = if ty == BlockType::Q4K { 15.0 } else { 31.0 };
    let ends: Vec<(f32, f32)> =
        block.chunks(32).map(|x| x.iter().fold((0.0f32, f32::MIN), |(l, h), &v| (l.min(v), h.max(v)))).collect();
    let d = halved(ends.iter().map(|(l, h)| (h - l) / top).fold(0.0, f32::max) / 63.0);
    let dmin = halved(ends.iter().map(|(l, _)| -l).fold(0.0, f32::max) / 63.0);
    let value = |i: usize| {
        let (low, high) = ends[i / 32];
        let scale = d * ((high - low) / top / d).round().min(63.0);
        let min = if dmin > 0.0 { dmin * (-low / dmin).round().min(63.0) } else { 0.0 };
        if scale > 0.0 { scale * ((block[i] + min) / scale).round().clamp(0.0, top) - min } else { -min }
    };
    (0..256).map(value).collect()
}

#[test]
fn the_search_is_never_worse_than_rounding_and_clearly_better_in_sum() {
    let values = weights(3, 64);
    for ty in K {
        let found = decode(ty, &encode(ty, &values));
        let (mut searched, mut rounded) = (0.0, 0.0);
        for (block, found) in values.chunks(256).zip(found.chunks(256)) {
            let (own, simple) = (error(ty, block, found), error(ty, block, &plain(ty, block)));
            assert!(own <= simple * 1.000_01, "{}: {own} above {simple}", ty.name());
            searched += own;
            rounded += simple;
        }
        assert!(searched < 0.85 * rounded, "{}: {searched} of {rounded}", ty.name());
    }
}

#[test]
fn odd_blocks_do_no_harm() {
    let mut one = vec![0.0f32; 256];
    one[77] = 65504.0;
    let rows =
        [vec![65504.0; 256], vec![-65504.0; 256], vec![1e-30; 256], one, (0..256).map(|i| 1.0 + i as f32).collect()];
    for ty in BlockType::ALL {
        for row in &rows {
            let found = decode(ty, &encode(ty, row));
            let most = row.iter().fold(0.0f32, |m, v| m.max(v.abs()));
            assert!(
                found.iter().zip(row).all(|(a, b)| (a - b).abs() <= (most * 0.15).max(1e-6)),
                "{} of {most}",
                ty.name()
            );
        }
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            encode(ty, &[bad; 256]);
        }
    }
}

#[test]
fn plain_types_round_to_the_nearest() {
    let values = [1.0f32, -0.1, 65504.0, 1.0 / 3.0];
    let mut bytes = [0; 8];
    RowType::F16.encode(&values, &mut bytes);
    let mut back = [0.0; 4];
    RowType::F16.decode(&bytes, &mut back);
    assert_eq!(back, values.map(|v| f16::from_f32(v).to_f32()));
    RowType::Bf16.encode(&values, &mut bytes);
    RowType::Bf16.decode(&bytes, &mut back);
    assert_eq!(back, values.map(|v| bf16::from_f32(v).to_f32()));
    let mut bytes = [0; 16];
    RowType::F32.encode(&values, &mut bytes);
    RowType::F32.decode(&bytes, &mut back);
    assert_eq!(back, values);
}
