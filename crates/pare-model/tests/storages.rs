//! Every storage against its dense form: sizes that straddle every tail, one row and many, any number of threads.

use crate::tiny::{Draw, all, uneven, with_shortcuts};
use pare_format::map::Bytes;
use pare_kernels::block_diagonal::BlockDiagonal;
use pare_kernels::blocks::BlockType;
use pare_kernels::panels::PanelType;
use pare_kernels::pool::Pool;
use pare_kernels::sparse::{EightRows, SparseType, TwoOfFour};
use pare_model::forward::KvCache;
use pare_model::matrix::Matrix;
use pare_model::memory::{Memory, Tokens, packed_bytes};
use pare_model::model::{PackAs, repack};
use pare_model::storage::{Dense, Element, LowRank, Packed, Sparse, Stored, Sum, Wrapped};
use pare_model::weight::{Linear, Weight, Workspace, apply_together};
use std::sync::Arc;

const OUTPUTS: [usize; 6] = [1, 7, 31, 32, 33, 100];
const INPUTS: [usize; 5] = [32, 64, 96, 256, 576];
const ROWS: [usize; 8] = [1, 2, 3, 5, 8, 13, 16, 40];

/// How near a storage comes to the fold over its decoded values.
#[derive(Clone, Copy, PartialEq)]
enum Law {
    /// The same bits.
    Fold,
    /// Its rows are rounded to 8 bits: each input moves by at most 1/254 of the largest of its block.
    Int8,
    /// Sums in several steps: the same number but for rounding.
    Steps,
}

struct Case {
    name: String,
    weight: Arc<dyn Weight>,
    law: Law,
}

fn dense(draw: &mut Draw, out: usize, inn: usize) -> Arc<dyn Weight> {
    Arc::new(Dense(Matrix::from_vec(out, inn, draw.many(out * inn, 0.0, 1.0))))
}

/// A matrix of random blocks with small scales.
fn quantised(draw: &mut Draw, ty: BlockType, out: usize, inn: usize) -> Stored {
    let blocks = out * inn / ty.values_per_block();
    let mut bytes: Vec<u8> =
        draw.tokens(blocks * ty.bytes_per_block(), 256).into_iter().map(|byte| byte as u8).collect();
    let scales: &[usize] = match ty {
        BlockType::Q4_0 | BlockType::Q5_0 | BlockType::Q8_0 => &[0],
        BlockType::Q6K => &[208],
        _ => &[0, 2],
    };
    for block in bytes.chunks_exact_mut(ty.bytes_per_block()) {
        for &at in scales {
            let scale = half::f16::from_f32(draw.many(1, 0.01, 0.005)[0]);
            block[at..at + 2].copy_from_slice(&scale.to_le_bytes());
        }
    }
    Stored::new(Element::Block(ty), [out, inn], Bytes::from(bytes)).unwrap()
}

/// Random numbers where `keeps(row, column, turn)`, zeros elsewhere.
fn pattern(draw: &mut Draw, out: usize, inn: usize, keeps: impl Fn(usize, usize, usize) -> bool) -> Matrix {
    let turn = draw.tokens(1, 3)[0] as usize;
    let mut values = draw.many(out * inn, 0.0, 1.0);
    for (at, value) in values.iter_mut().enumerate() {
        *value *= f32::from(u8::from(keeps(at / inn, at % inn, turn)));
    }
    Matrix::from_vec(out, inn, values)
}

fn cases(out: usize, inn: usize, pool: &Pool) -> Vec<Case> {
    let mut draw = Draw::new((out * 1000 + inn) as u64);
    let draw = &mut draw;
    let mut cases = Vec::new();
    let mut add = |name: &str, weight: Arc<dyn Weight>, law| cases.push(Case { name: name.to_owned(), weight, law });
    let plain = dense(draw, out, inn);
    for ty in [PanelType::F32, PanelType::F16, PanelType::Bf16] {
        add(&format!("{ty:?} panels"), Arc::new(Packed::pack(plain.as_ref(), ty, pool)), Law::Fold);
    }
    for ty in BlockType::ALL.into_iter().filter(|ty| inn.is_multiple_of(ty.values_per_block())) {
        let stored = quantised(draw, ty, out, inn);
        add(&format!("{} panels", ty.name()), Arc::new(Packed::blocks(&stored, pool).unwrap()), Law::Int8);
        add(&format!("{} in a file", ty.name()), Arc::new(stored), Law::Fold);
    }
    let two = |draw: &mut Draw| pattern(draw, out, inn, |row, column, turn| (column + row + turn) % 4 < 2);
    let eight =
        |draw: &mut Draw| pattern(draw, out, inn, |row, column, turn| (column + row / 8 + turn).is_multiple_of(3));
    for (ty, law) in [(SparseType::F16, Law::Fold), (SparseType::Int8, Law::Int8)] {
        let matrix = two(draw);
        let matrix = TwoOfFour::pack(ty, out, inn, &|row, to| to.copy_from_slice(matrix.row(row)), pool).unwrap();
        add(&format!("2:4 {ty:?}"), Arc::new(Sparse::two_of_four(matrix)), law);
        let matrix = eight(draw);
        let matrix = EightRows::pack(ty, out, inn, &|row, to| to.copy_from_slice(matrix.row(row)), pool).unwrap();
        add(&format!("8 rows {ty:?}"), Arc::new(Sparse::eight_rows(matrix)), Law::Fold);
    }
    let rank = 5;
    let (a, b) = (dense(draw, out, rank), dense(draw, rank, inn));
    let low_rank: Arc<dyn Weight> = Arc::new(LowRank::new(a, b).unwrap());
    add("low rank", Arc::clone(&low_rank), Law::Steps);
    let core = quantised(draw, BlockType::Q4_0, out, inn);
    let core: Arc<dyn Weight> = Arc::new(core);
    add("sum", Arc::new(Sum::new(vec![Arc::clone(&core), low_rank]).unwrap()), Law::Steps);
    let left = [8, 3, 1].into_iter().find(|&size| out.is_multiple_of(size)).unwrap();
    let [left, right] = [[out, left], [inn, 32]].map(|[width, size]| {
        let values = draw.many(width * size, 0.0, 0.3);
        let row = |block: usize, row: usize, to: &mut [f32]| {
            to.copy_from_slice(&values[(block * size + row) * size..][..size]);
        };
        Arc::new(BlockDiagonal::pack(PanelType::F32, width / size, size, &row, pool))
    });
    add("wrapped", Arc::new(Wrapped::new(left, core, right).unwrap()), Law::Steps);
    add("dense", plain, Law::Fold);
    cases
}

fn multiply(weight: &dyn Weight, x: &[f32], rows: usize, pool: &Pool) -> Vec<f32> {
    let mut y = vec![f32::NAN; rows * weight.shape()[0]];
    weight.multiply(x, &mut y, &mut Workspace::new(), pool);
    y
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn every_storage_multiplies_as_its_dense_form_does() {
    let pools = [Pool::new(1), Pool::new(2), Pool::new(3)];
    for (out, inn) in OUTPUTS.into_iter().flat_map(|out| INPUTS.map(|inn| (out, inn))) {
        let most = ROWS[ROWS.len() - 1];
        let x = Draw::new(7).many(most * inn, 0.0, 1.0);
        for Case { name, weight, law } in cases(out, inn, &pools[1]) {
            let name = format!("{name} [{out}, {inn}]");
            assert_eq!(weight.shape(), [out, inn], "{name}");
            assert!(weight.bytes() > 0, "{name}");
            let matrix = Linear::new(Arc::clone(&weight)).to_matrix();
            for o in 0..out {
                let mut row = vec![f32::NAN; inn];
                weight.decode_row(o, &mut row);
                assert_eq!(bits(&row), bits(matrix.row(o)), "{name}: row {o}");
            }
            let whole = multiply(weight.as_ref(), &x, most, &pools[0]);
            for (t, y) in whole.chunks_exact(out).enumerate() {
                let x = &x[t * inn..(t + 1) * inn];
                for (o, &y) in y.iter().enumerate() {
                    let row = matrix.row(o);
                    let fold = row.iter().zip(x).fold(0.0f32, |acc, (w, x)| x.mul_add(*w, acc));
                    let exact: f64 = row.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum();
                    let size: f64 = row.iter().map(|w| f64::from(w.abs())).sum();
                    let off = (f64::from(y) - exact).abs();
                    match law {
                        Law::Fold => assert_eq!(y.to_bits(), fold.to_bits(), "{name}: row {t}, output {o}"),
                        Law::Int8 => assert!(off <= size / 250.0 + 1e-6, "{name}: {y} is not {exact}"),
                        Law::Steps => assert!(off <= 1e-4 * size + 1e-5, "{name}: {y} is not {exact}"),
                    }
                }
            }
            for rows in ROWS {
                for pool in &pools {
                    let y = multiply(weight.as_ref(), &x[..rows * inn], rows, pool);
                    assert_eq!(bits(&y), bits(&whole[..rows * out]), "{name}: {rows} rows, {} threads", pool.threads());
                }
            }
        }
    }
}

#[test]
fn maps_applied_together_give_what_each_gives_alone() {
    let pool = Pool::new(2);
    let (out, inn, rows) = (33, 64, 3);
    let x = Draw::new(3).many(rows * inn, 0.0, 1.0);
    let cases = cases(out, inn, &pool);
    let linear = |case: &Case, seed| Linear {
        weight: Arc::clone(&case.weight),
        bias: Some(Draw::new(seed).many(out, 0.0, 1.0).into()),
    };
    for (first, second) in cases.iter().zip(cases.iter().skip(1).chain(&cases[..1])) {
        let maps = [linear(first, 1), linear(second, 2)];
        let mut work = Workspace::new();
        let alone = maps.each_ref().map(|map| {
            let mut y = vec![0.0; rows * out];
            map.apply(&x, &mut y, &mut work, &pool);
            y
        });
        let mut together = [vec![0.0; rows * out], vec![0.0; rows * out]];
        let [a, b] = &mut together;
        apply_together([(&maps[0], &mut a[..]), (&maps[1], &mut b[..])], &x, &mut work, &pool);
        assert_eq!(together.map(|y| bits(&y)), alone.map(|y| bits(&y)), "{} and {}", first.name, second.name);
    }
}

#[test]
fn parts_that_do_not_fit_make_no_storage() {
    let mut draw = Draw::new(1);
    let draw = &mut draw;
    assert!(LowRank::new(dense(draw, 4, 3), dense(draw, 2, 5)).is_none());
    assert!(Sum::new(Vec::new()).is_none());
    assert!(Sum::new(vec![dense(draw, 4, 3), dense(draw, 3, 4)]).is_none());
    let pool = Pool::new(1);
    let diagonal = |count| Arc::new(BlockDiagonal::pack(PanelType::F32, count, 2, &|_, _, row| row.fill(1.0), &pool));
    assert!(Wrapped::new(diagonal(2), dense(draw, 4, 6), diagonal(2)).is_none());
    assert!(Wrapped::new(diagonal(2), dense(draw, 4, 6), diagonal(3)).is_some());
}

#[test]
fn what_is_sparse_stays_so_when_packed_as_stored_and_becomes_plain_when_packed_exactly() {
    let pool = Pool::new(2);
    for (out, inn) in [(33, 96), (100, 64)] {
        for case in
            cases(out, inn, &pool).into_iter().filter(|case| case.name.contains("2:4") || case.name.contains("8 rows"))
        {
            let mut model = uneven();
            model.embedding = Arc::clone(&case.weight);
            model.head = None;
            let stored = model.packed(PackAs::Stored, &pool).embedding;
            assert!(Arc::ptr_eq(&stored, &case.weight) && stored.product().is_some(), "{}", case.name);
            let exact = model.packed(PackAs::Exact, &pool).embedding;
            assert!(["f16", "f32"].contains(&exact.name()), "{}: {}", case.name, exact.name());
            let matrix = |weight: &Arc<dyn Weight>| bits(Linear::new(Arc::clone(weight)).to_matrix().data());
            assert_eq!(matrix(&exact), matrix(&case.weight), "{}", case.name);
        }
    }
}

#[test]
fn bytes_are_known_before_anything_is_repacked() {
    let pool = Pool::new(1);
    let packs = [PackAs::Stored, PackAs::Exact, PackAs::Type(PanelType::F16), PackAs::Type(PanelType::F32)];
    for (out, inn) in [(1, 32), (33, 256), (100, 576)] {
        for Case { name, weight, .. } in cases(out, inn, &pool) {
            for pack in packs {
                let found = packed_bytes(weight.as_ref(), pack);
                assert_eq!(found, repack(&weight, pack, &pool).bytes() as u64, "{name} {out} x {inn} as {pack:?}");
            }
        }
    }
    for (name, model) in all() {
        for model in [with_shortcuts(&model), model] {
            for context in [1, 40] {
                let memory = Memory::of(&model, PackAs::Stored, Tokens { prompt: 1, context, threads: 2 });
                let packed = model.packed(PackAs::Stored, &pool);
                assert_eq!(memory.weights_per_token_bytes, packed.bytes_per_token(), "{name}");
                assert_eq!(memory.cache_bytes, KvCache::new(&model, context).bytes() as u64, "{name}");
            }
        }
    }
}
