//! How `llama-bench` is asked, and what it prints.

use super::{Build, json, speed};
use crate::bench::measure::{Sizes, Turn};
use serde::Deserialize;
use std::path::Path;
use std::process::Command;

/// One test of llama-bench's JSON.
#[derive(Deserialize)]
struct Test {
    #[serde(flatten)]
    build: Build,
    n_prompt: usize,
    n_gen: usize,
    #[serde(default)]
    n_depth: usize,
    avg_ts: f64,
}

pub(super) fn ask(command: &mut Command, file: &Path, sizes: &Sizes, threads: usize) {
    command.arg("-m").arg(file);
    command.args(["-t", &threads.to_string(), "-p", &sizes.prompt.to_string(), "-n", &sizes.tokens.to_string()]);
    // The prompt is measured after 0 tokens, whether or not decoding is.
    let depths: Vec<String> = depths(sizes).iter().map(usize::to_string).collect();
    command.args(["-d", &depths.join(","), "-r", "1", "-o", "json"]);
}

pub(super) fn read(stdout: &[u8], sizes: &Sizes) -> Result<(Turn, Build), String> {
    tests(stdout).and_then(|tests| turn_of(&tests, sizes))
}

/// Contexts that the peer is asked for: ours, and 0 for the prompt.
fn depths(sizes: &Sizes) -> Vec<usize> {
    let mut depths = sizes.contexts.clone();
    depths.push(0);
    depths.sort_unstable();
    depths.dedup();
    depths
}

fn tests(stdout: &[u8]) -> Result<Vec<Test>, String> {
    json(stdout, "tests")
}

/// What we asked for, among the tests that were made.
fn turn_of(tests: &[Test], sizes: &Sizes) -> Result<(Turn, Build), String> {
    let find = |prompt: usize, tokens: usize, depth: usize| -> Result<&Test, String> {
        let wanted = |test: &&Test| (test.n_prompt, test.n_gen, test.n_depth) == (prompt, tokens, depth);
        let what = || format!("the test of {prompt} prompt tokens and {tokens} decoded ones after {depth}");
        let test = tests.iter().find(wanted).ok_or_else(|| format!("did not print {}", what()))?;
        speed(test.avg_ts, || format!("avg_ts of {}", what()))?;
        Ok(test)
    };
    let prompt = find(sizes.prompt, 0, 0)?;
    let decode: Result<Vec<f64>, String> =
        sizes.contexts.iter().map(|&context| Ok(find(0, sizes.tokens, context)?.avg_ts)).collect();
    Ok((Turn { prefill_tok_s: prompt.avg_ts, decode_tok_s: decode? }, prompt.build.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(contexts: &[usize]) -> Sizes {
        Sizes { prompt: 8, tokens: 4, contexts: contexts.to_vec() }
    }

    fn test(prompt: usize, tokens: usize, depth: usize, avg_ts: &str) -> String {
        format!(
            r#"{{"build_commit":"abc","build_number":7,"backends":"CPU","type_k":"f16","n_prompt":{prompt},"n_gen":{tokens},"n_depth":{depth},"avg_ts":{avg_ts},"samples_ns":[1]}}"#
        )
    }

    fn read_parts(parts: &[String], contexts: &[usize]) -> Result<(Turn, Build), String> {
        tests(format!("[{}]", parts.join(",")).as_bytes()).and_then(|tests| turn_of(&tests, &sizes(contexts)))
    }

    #[test]
    fn the_tests_asked_for_are_found_in_any_order() {
        let all = [test(0, 4, 16, "3.5"), test(8, 0, 16, "80"), test(0, 4, 0, "4"), test(8, 0, 0, "100.25")];
        let (turn, build) = read_parts(&all, &[0, 16]).unwrap();
        assert_eq!(turn, Turn { prefill_tok_s: 100.25, decode_tok_s: vec![4.0, 3.5] });
        assert_eq!((build.build_commit.as_str(), build.build_number, build.backends.as_str()), ("abc", Some(7), "CPU"));
        assert!(read_parts(&all[..3], &[0]).unwrap_err().contains("did not print the test of 8 prompt tokens"));
        assert!(read_parts(&all, &[0, 32]).unwrap_err().contains("4 decoded ones after 32"));
    }

    #[test]
    fn figures_that_are_none_are_refused() {
        for bad in ["0", "-1", "1e999", "null", "\"fast\""] {
            assert!(read_parts(&[test(8, 0, 0, bad)], &[]).is_err(), "{bad}");
        }
        assert!(tests(b"").err().unwrap().contains("but nothing"));
        assert!(tests(b"| model | size |").err().unwrap().contains("| model | size |"));
    }

    #[test]
    fn the_prompt_is_always_measured_after_nothing() {
        assert_eq!(depths(&sizes(&[16, 512])), [0, 16, 512]);
        assert_eq!(depths(&sizes(&[0])), [0]);
    }
}
