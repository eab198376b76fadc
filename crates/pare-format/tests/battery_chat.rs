//! Hostile chat templates, group C of the battery, and templates that must work.

mod model_file;
mod rows;

use std::path::Path;
use std::time::{Duration, Instant};

use pare_format::chat::{ChatTemplate, Date, Message, messages};
use pare_format::gguf::Gguf;
use pare_format::tokenizer::Tokenizer;
use rows::Expect::{Fine, Says};
use rows::{Expect, Row, row};

fn message(role: &str, content: &str) -> Message {
    Message { role: role.into(), content: content.into() }
}

fn render(source: &str, messages: &[Message]) -> Result<String, String> {
    let template = ChatTemplate::parse(Path::new("model.gguf"), source).map_err(|e| e.to_string())?;
    let template = template.with_date(Date { year: 2026, month: 3, day: 9 });
    template.render(messages, true, "<s>", "</s>").map_err(|e| e.to_string())
}

fn template(id: &'static str, expect: Expect, source: impl Into<String>) -> Row {
    let source = source.into();
    row(id, expect, move || render(&source, &[message("user", "hi")]).map(drop))
}

#[test]
fn hostile_templates() {
    let macros = "{% macro m(n) %}{{ m(n) }}{{ m(n) }}{% endmacro %}{{ m(1) }}";
    let doubling = |op: &str| {
        format!(
            "{{% set ns = namespace(x='ab') %}}{{% for i in range(60) %}}{{% set ns.x = ns.x {op} ns.x %}}{{% endfor %}}{{{{ ns.x|length }}}}"
        )
    };
    let capture = "{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set y %}{{ ns.x }}{{ ns.x }}{% endset %}{% set ns.x = y %}{% endfor %}{{ ns.x|length }}";
    let replaced = "{% set ns = namespace(x='aa') %}{% for i in range(60) %}{% set ns.x = ns.x.replace('a', ns.x) %}{% endfor %}{{ ns.x|length }}";
    let text = format!(
        "{{% set x %}}{{% for i in range(99999) %}}{}{{% endfor %}}{{% endset %}}{{{{ x|length }}}}",
        "y".repeat(200_000)
    );
    rows::run(vec![
        template(
            "C01 three ranges",
            Says(&["model.gguf", "chat template", "fuel", "at most 1000000 instructions"]),
            "{% for a in range(999) %}{% for b in range(999) %}{% for c in range(999) %}{% endfor %}{% endfor %}{% endfor %}",
        ),
        template(
            "C01 10^9",
            Says(&["line 1", "range has too many elements"]),
            "{% for a in range(10**9) %}{% endfor %}",
        ),
        template("C01 repeated text", Says(&["line 1", "cannot be multiplied"]), "{{ 'x' * 1000000000 }}"),
        template("C01 repeated text 2", Says(&["cannot be multiplied"]), "{{ 99999999 * 'x' }}"),
        template("C01 repeated list", Says(&["cannot be multiplied"]), "{{ ([0] * 99999999)|length }}"),
        template("C01 macros", Says(&["recursion limit"]), macros),
        template("C01 doubling ~", Says(&["copies more"]), doubling("~")),
        template("C01 doubling +", Says(&["copies more"]), doubling("+")),
        template("C01 doubling list", Says(&["copies more"]), doubling("+").replace("'ab'", "[1, 2]")),
        template("C01 capture", Says(&["copies more"]), capture),
        template("C01 replace", Says(&["copies more"]), replaced),
        template(
            "C01 join",
            Says(&["copies more"]),
            "{{ range(99999)|join('x' ~ range(9999)|join('xxxxxxxx'))|length }}",
        ),
        template(
            "C01 filters on ranges",
            Says(&["copies more"]),
            "{% for a in range(99999) %}{% set x = range(99999)|list %}{% endfor %}",
        ),
        template("C01 text in a loop", Says(&["fuel"]), text),
        template("C02 include", Says(&["line 1", "template not found"]), "{% include '/etc/passwd' %}"),
        template("C02 import", Says(&["template not found"]), "{% import 'x' as y %}"),
        template("C02 extends", Says(&["template not found"]), "{% extends 'x' %}"),
        template("C02 itself", Says(&["template not found"]), "{% include '<string>' %}"),
        template("C02 class", Says(&["undefined"]), "{{ ''.__class__.__mro__ }}"),
        template("C02 attr", Says(&["unknown filter", "attr"]), "{{ messages|attr('x') }}"),
        template("C02 attr by name", Says(&["unknown filter"]), "{{ messages|map('attr', 'x')|list }}"),
        template("C02 env", Says(&["undefined"]), "{{ env.get('HOME') }}"),
        template("C02 debug", Says(&["unknown function"]), "{{ debug() }}"),
        template("C02 allowance", Says(&["line 1", "syntax error"]), "{% set  allowance' = 10 %}"),
        template("C03 syntax", Says(&["line 3", "syntax error"]), "a\nb\n{% if %}"),
        template("C03 inside of nothing", Says(&["line 2", "undefined"]), "a\n{{ nothing.x }}"),
        template("C04 wide field", Says(&["width of more than"]), "{{ '{:>99999}'.format('x') }}"),
        template("C04 wide field 2", Says(&["width of more than"]), "{{ '%*d'|format(99999, 1) }}"),
        template(
            "C03 raise",
            Says(&["line 1", "refuses: roles must alternate"]),
            "{{ raise_exception('roles must alternate') }}",
        ),
        template("C03 unclosed", Says(&["syntax error"]), "{{ a ~ "),
        template("C03 unclosed raw", Says(&["syntax error"]), "{% raw %}{{ "),
        template("C04 10 MB", Says(&["10485760 bytes", "262144"]), "x".repeat(10 << 20)),
        template(
            "C04 output",
            Says(&["output of more than 41944", "four times the messages and 4 MiB"]),
            "{% for i in range(90000) %}yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy{% endfor %}",
        ),
        template(
            "C04 deep",
            Says(&["syntax error"]),
            format!("{{{{ {}1{} }}}}", "(".repeat(100_000), ")".repeat(100_000)),
        ),
        template("C04 deep blocks", Says(&["syntax error"]), "{% if 1 %}".repeat(20_000)),
        template("C04 many lines", Fine, "\n".repeat(200_000)),
        template("C04 wide indent", Says(&["tojson(indent=999999999)"]), "{{ messages|tojson(indent=999999999) }}"),
        template("C07 no date code", Says(&["strftime_now", "%Q"]), "{{ strftime_now('%Q') }}"),
        row("C07 no messages", Says(&["messages", "no messages", "at least one"]), || render("x", &[]).map(drop)),
        row("C07 10^5 messages", Says(&["100000 messages", "at most 16384"]), || {
            render("x", &vec![message("user", ""); 100_000]).map(drop)
        }),
        row("C07 unknown role", Says(&["refuses: unknown role: robot"]), || {
            let source = "{% for m in messages %}{% if m.role not in ['user'] %}{{ raise_exception('unknown role: ' + m.role) }}{% endif %}{% endfor %}";
            render(source, &[message("robot", "")]).map(drop)
        }),
    ]);
}

#[test]
fn fuel_ends_quickly() {
    let source = "{% for a in range(999) %}{% for b in range(999) %}{% for c in range(999) %}{% endfor %}{% endfor %}{% endfor %}";
    // The best of three: the machine may be busy.
    let best = (0..3).map(|_| {
        let started = Instant::now();
        assert!(render(source, &[message("user", "hi")]).is_err());
        started.elapsed()
    });
    let best = best.min().expect("three runs");
    assert!(best < Duration::from_millis(200), "{best:?}");
}

#[test]
fn message_lists() {
    let read = |json: &str| messages(Path::new("request"), json.as_bytes()).map_err(|e| e.to_string());
    assert_eq!(read(r#"[{"role":"user","content":"hi"}]"#), Ok(vec![message("user", "hi")]));
    for (json, parts) in [
        (r#"[{"role":"user","content":"a"},{"role":"user","content":null}]"#, ["messages[1]", "null"]),
        (r#"[{"role":"user","content":7}]"#, ["messages[0]", "7"]),
        (r#"[{"role":"user","content":[{"type":"text"}]}]"#, ["messages[0]", "sequence"]),
        (r#"[{"content":"a"}]"#, ["messages[0]", "role"]),
        (r#"{"role":"user"}"#, ["messages", "map"]),
        (r#"[{"role":"user""#, ["messages", "EOF"]),
    ] {
        let e = read(json).expect_err(json);
        assert!(parts.iter().all(|p| e.contains(p)), "{json}: {e}");
    }
}

#[test]
fn the_model_s_own_template() {
    let (path, bytes) = model_file::smollm2();
    let t = Tokenizer::from_gguf(&Gguf::parse(&path, &bytes).expect("sound")).expect("a tokenizer");
    let template = ChatTemplate::parse(&path, t.chat_template().expect("a template")).expect("sound");
    let chat = [message("user", "Hello!"), message("assistant", "Hi <|im_end|>"), message("user", "Bye\n")];
    let expected = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n\
                    <|im_start|>user\nHello!<|im_end|>\n<|im_start|>assistant\nHi <|im_end|><|im_end|>\n\
                    <|im_start|>user\nBye\n<|im_end|>\n<|im_start|>assistant\n";
    assert_eq!(template.render(&chat, true, "<|im_start|>", "<|im_end|>").expect("a prompt"), expected);
    let own = [message("system", "Be brief."), message("user", "Hello!")];
    let expected = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello!<|im_end|>\n";
    assert_eq!(template.render(&own, false, "", "").expect("a prompt"), expected);
    // A long conversation stays within fuel and limits.
    let long = vec![message("user", &"word ".repeat(100)); 4_000];
    assert!(template.render(&long, true, "", "").expect("a prompt").len() > 2_000_000);
}

#[test]
fn what_templates_use() {
    let chat = [message("system", " S "), message("user", "ünï<&>")];
    for (source, expected) in [
        (
            "{{ bos_token }}{% for m in messages %}\n  {%- if loop.last %}\n    {{- m['content'] | trim }}\n  {%- endif %}\n{% endfor %}",
            "<s>ünï<&>",
        ),
        (
            "{% set ns = namespace(s='') %}{% for m in messages %}{% set ns.s = ns.s + m.role + '|' %}{% endfor %}{{ ns.s }}",
            "system|user|",
        ),
        ("{{ {'a': [1, true, none]}|tojson(indent=2) }}", "{\n  \"a\": [\n    1,\n    true,\n    null\n  ]\n}"),
        ("{{ messages[0].content.strip() }}{{ messages[1]['role'].upper() }}", "SUSER"),
        ("{% if tools is defined and tools %}x{% else %}y{% endif %}", "y"),
        ("{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | join(',') }}", "ünï<&>"),
        ("{{ strftime_now('%d %b %Y') }}", "09 Mar 2026"),
        ("{% if (loop is defined) %}{% endif %}{{ messages[1:]|length }}{{ 7 % 2 + 2 * 3 }}", "17"),
        ("{{ 'a' ~ 1 ~ ('b' if add_generation_prompt else 'c') }}{{ messages[-1].role + eos_token }}", "a1buser</s>"),
        ("{% macro f(x, y='d') %}[{{ x + y }}]{% endmacro %}{{ f('q') ~ f('r', y='s') }}", "[qd][rs]"),
        ("{% for m in messages %}{% if m.role == 'user' %}{% continue %}{% endif %}{{ m.role }}{% endfor %}", "system"),
        ("{{ '<b>'|safe + messages[1].content + '</b>'|safe }}", "<b>ünï&lt;&amp;&gt;</b>"),
        ("{% for m in messages %}{{ m.role }}{% break %}{% endfor %}", "system"),
        ("a{% generation %}\n {{ messages[0].role }}\n{%- endgeneration -%} \nb", "a systemb"),
        ("{% set x = 1 %}{% generation %}{% set x = 2 %}{% endgeneration %}{{ x }}", "1"),
        (
            "{{ none is iterable }} {{ 'x' is iterable }} {{ {} is sequence }} {{ true is number }}",
            "False True True True",
        ),
        ("{{ '{} and {name}'.format(1, name='x') }} {{ '%s-%03d' | format('a', 7) }}", "1 and x a-007"),
        (
            "{{ [1, 'a', none, true, 1.5] }} {{ {'b': 'c'} }} {{ none }} {{ nothing }}",
            "[1, 'a', None, True, 1.5] {'b': 'c'} None ",
        ),
        (
            "{{ true ~ 1.0 ~ none ~ nothing }} {{ [true, none]|join('-') }} {{ {'a': 1}|string }}",
            "True1.0None True-None {'a': 1}",
        ),
        ("{{ messages|tojson }}", r#"[{"role": "system", "content": " S "}, {"role": "user", "content": "ünï<&>"}]"#),
        (
            "{{ {'b': [1, 1e16], 'a': {}}|tojson }} {{ {'b': 1, 'a': '\\n'}|tojson(sort_keys=true) }}",
            r#"{"b": [1, 1e+16], "a": {}} {"a": "\n", "b": 1}"#,
        ),
        ("{{ {'b': ['é']}|tojson(ensure_ascii=true, separators=(',', ':')) }}", r#"{"b":["\u00e9"]}"#),
        ("{{ {'a': [1, {}]}|tojson(indent=2) }}", "{\n  \"a\": [\n    1,\n    {}\n  ]\n}"),
    ] {
        assert_eq!(render(source, &chat).as_deref(), Ok(expected), "{source}");
    }
}
