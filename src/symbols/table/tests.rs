//! What files say, and what is said of bad ones.

use proptest::prelude::*;

use super::super::{BuiltIn, Pattern};
use super::*;

fn quiet(yaml: &str) -> Vec<Symbol> {
    let (table, problems) = Table::parse(yaml, "s.yaml");
    assert_eq!(problems, [], "{yaml}");
    table.symbols
}

fn problems(yaml: &str) -> (Vec<Symbol>, Vec<String>) {
    let (table, problems) = Table::parse(yaml, "s.yaml");
    (table.symbols, problems.iter().map(ToString::to_string).collect())
}

#[test]
fn an_entry_with_only_a_symbol_has_the_defaults() {
    let symbols = quiet("- symbol: a.b:C.m\n");
    let expected = Symbol {
        target: Target::Exact { module: "a.b".into(), path: "C.m".into() },
        handler: HandlerRef::Timer,
        domain: "Default".into(),
        name: None,
        versions: VersionRange::default(),
        attributes: Vec::new(),
        caller_filter: None,
        until: None,
        sample: NonZeroU32::MIN,
        dump_over: None,
        level: Level::INFO,
        line: 1,
    };
    assert_eq!(symbols, [expected]);
}

#[test]
fn every_key_is_read() {
    let symbols = quiet(
        "# the first line\n\
         - symbol: \"vllm.model_executor.models.*:*.embed_multimodal\"\n  \
           handler: ms_service_profiler.patcher.vllm.handlers.v1.batch_handlers:schedule\n  \
           name: on\n  \
           domain: Multimodal\n  \
           min_version: 0.10\n  \
           max_version: \"0.14.0rc1\"\n  \
           caller_filter: step\n  \
           level: detailed\n\
         - symbol: a:f\n  \
           level: 35\n  \
           handler: timer\n  \
           attributes:\n  \
           - name: shape\n    \
             expr: x | attr shape | str\n  \
           - {name: n, expr: 'len(return)'}\n",
    );
    let [first, second] = &symbols[..] else { panic!("{symbols:?}") };
    assert!(matches!(&first.target, Target::Pattern(Pattern { class, .. }) if class == "*"));
    assert_eq!(first.handler, HandlerRef::BuiltIn(BuiltIn::Schedule));
    assert_eq!((first.name.as_deref(), first.domain.as_str()), (Some("on"), "Multimodal"));
    assert_eq!(first.versions.min, Some("0.10".parse().unwrap()), "not 0.1");
    assert_eq!(first.versions.max, Some("0.14.0rc1".parse().unwrap()));
    assert_eq!((first.caller_filter.as_deref(), first.level, first.line), (Some("step"), Level::DETAILED, 2));
    assert_eq!((second.level, second.line), (Level::new(35), 10));
    let attribute = |name: &str, expr: &str, line| Attribute { name: name.into(), expr: expr.into(), line };
    assert_eq!(
        second.attributes,
        [attribute("shape", "x | attr shape | str", 15), attribute("n", "len(return)", 16)]
    );
}

#[test]
fn the_guides_examples_are_read_without_a_word() {
    let symbols = quiet(
        "
- symbol: vllm.v1.core.kv_cache_manager:KVCacheManager.free
  handler: ms_service_profiler.patcher.config.custom_handler_example.kvcache_manager_free_example_handler
  domain: Example
  name: example_custom
- symbol: vllm.v1.engine.core:EngineCore.execute_model
  domain: ModelExecute
  name: EngineCoreExecute
- symbol: vllm.v1.executor.abstract:Executor.execute_model
  min_version: \"0.9.1\"
  # If no handler is specified, the default timer is used.
- symbol: vllm_ascend.worker.model_runner_v1:NPUModelRunner.execute_model
  name: ModelRunnerExecuteModel
  domain: ModelExecute
  attributes:
  - name: device
    expr: args[0] | attr device | str
  - name: dp
    expr: args[0] | attr dp_rank | str
  - name: batch_size
    expr: args[0] | attr input_batch | attr _req_ids | len
- symbol: some.module:function
  attributes:
  # Obtains the tensor shape
  - name: tensor_shape
    expr: input_tensor | attr shape | str

  # Obtaining a specific value from a dictionary
  - name: batch_size
    expr: kwargs['batch_size']

  # Condition expression
  - name: is_training_mode
    expr: training | bool

  # Complex data processing
  - name: processed_data_len
    expr: data | attr items | len | str
- symbol: vllm.entrypoints.openai.serving_chat:OpenAIServingChat.create_chat_completion
  name: OpenAIServingChat.create_chat_completion
  domain: Server
",
    );
    assert_eq!(symbols.iter().map(|symbol| symbol.attributes.len()).collect::<Vec<_>>(), [0, 0, 0, 3, 4, 0]);
    assert!(
        matches!(&symbols[0].handler, HandlerRef::Custom { function, .. } if function == "kvcache_manager_free_example_handler")
    );
}

#[test]
fn a_bad_entry_is_skipped_with_its_line_and_the_others_stay() {
    let (symbols, problems) = problems(
        "- symbol: a:f\n\
         - just text\n\
         - name: nothing\n\
         - symbol: vllm.v1.core.Scheduler.schedule\n  name: x\n\
         - symbol: [a, b]\n\
         -\n\
         - symbol: a:g\n",
    );
    let named: Vec<_> = symbols.iter().map(|symbol| symbol.target.to_string()).collect();
    assert_eq!(named, ["a:f", "a:g"]);
    let expected = [
        "s.yaml:2: an entry must be a map",
        "s.yaml:3: the entry has no `symbol`",
        "s.yaml:4: \"vllm.v1.core.Scheduler.schedule\" does not say where the module ends: put a colon there, perhaps \
         `vllm.v1.core:Scheduler.schedule`; the entry is skipped",
        "s.yaml:6: `symbol` must be a text, not a list",
        "s.yaml:6: the entry has no `symbol`",
        "s.yaml:7: an entry must be a map that begins with `- symbol: …`, not nothing",
    ];
    assert_eq!(problems.len(), expected.len(), "{problems:#?}");
    for (problem, start) in problems.iter().zip(expected) {
        assert!(problem.starts_with(start), "{problem}");
    }
}

#[test]
fn a_timer_is_told_when_to_end() {
    let until = |word| quiet(&format!("- {{symbol: 'a:f', until: {word}}}"))[0].until;
    assert_eq!(
        ["return", "done", "exit"].map(until),
        [Some(Until::Return), Some(Until::Done), Some(Until::Exit)]
    );
    let (_, problems) = problems("- symbol: a:f\n  handler: b:g\n  until: done\n");
    assert_eq!(problems, ["s.yaml:1: `until` tells the timer when to end; with a handler it has no effect"]);
}

#[test]
fn a_bad_value_is_reported_and_the_entry_still_counts() {
    let cases = [
        ("handler: tmier", "s.yaml:2: the handler \"tmier\" is neither"),
        ("handler: [a]", "s.yaml:2: `handler` must be a text, not a list"),
        ("handler: msprof_rs.handlers:nothing", "s.yaml:2: there is no built-in handler"),
        ("name: {a: b}", "s.yaml:2: `name` must be a text, not a map"),
        ("min_version: soon", "s.yaml:2: `min_version`: \"soon\" is not a version"),
        ("max_version: 0.9.x", "s.yaml:2: `max_version`: \"0.9.x\" is not a version"),
        ("until: later", "s.yaml:2: `until`: \"later\" is not return, done or exit"),
        ("sample: 0.5", "s.yaml:2: `sample`: \"0.5\" is not like 1/100"),
        ("sample: 1/0", "s.yaml:2: `sample`: \"1/0\" is not like 1/100"),
        ("dump_over: 500", "s.yaml:2: `dump_over`: \"500\" is not a time such as 500ms"),
        ("dump_over: -1s", "s.yaml:2: `dump_over`: \"-1s\" is not a time such as 500ms"),
        ("level: loud", "s.yaml:2: `level`: \"loud\" is not core, normal, detailed"),
        (
            "level: 99",
            "s.yaml:2: `level`: \"99\" is not core, normal, detailed, verbose or a number up to 40",
        ),
        ("attributes: x", "s.yaml:2: `attributes` must be a list"),
        ("attributes: [x]", "s.yaml:2: an attribute needs `name: …` and `expr: …`"),
        ("attributes: [{name: x}]", "s.yaml:2: an attribute needs"),
        (
            "attributes: [{name: x, expr: 'a | lne'}]",
            "s.yaml:2: the attribute `x` is left out: column 5: unknown operator `lne`",
        ),
        ("atributes: []", "s.yaml:2: the key `atributes` has no effect; there are: symbol, handler"),
    ];
    for (line, start) in cases {
        let (symbols, problems) = problems(&format!("- symbol: a:f\n  {line}\n"));
        assert_eq!(symbols, quiet("- symbol: a:f\n"), "{line}");
        let [problem] = &problems[..] else { panic!("{line}: {problems:?}") };
        assert!(problem.starts_with(start), "{line}: {problem}");
    }
}

#[test]
fn attributes_beside_a_handler_are_reported_and_kept_for_the_timer_that_may_replace_it() {
    let (symbols, problems) =
        problems("- symbol: a:f\n  handler: m:h\n  attributes: [{name: n, expr: return}]\n");
    assert_eq!(symbols[0].attributes.len(), 1);
    assert!(problems[0].starts_with("s.yaml:1: `attributes` are recorded by the timer"), "{problems:?}");
}

#[test]
fn of_a_key_that_is_there_twice_the_last_counts_and_both_lines_are_told() {
    let (symbols, problems) = problems(
        "- symbol: a:f\n  domain: D\n  domain: E\n- symbol: a:g\n  symbol: a:h\n  attributes:\n  - name: x\n    expr: a\n    expr: b\n",
    );
    assert_eq!((symbols[0].domain.as_str(), symbols[1].target.to_string().as_str()), ("E", "a:h"));
    assert_eq!(symbols[1].attributes[0].expr, "b");
    assert_eq!(
        problems,
        [
            "s.yaml:3: the key `domain` is there twice, also in line 2; this one counts",
            "s.yaml:5: the key `symbol` is there twice, also in line 4; this one counts",
            "s.yaml:9: the key `expr` is there twice, also in line 8; this one counts",
        ]
    );
    quiet("- &b {symbol: 'a:f', domain: D}\n- <<: *b\n  domain: E\n");
}

#[test]
fn limits_that_no_version_keeps_are_reported() {
    let (_, problems) = problems("- symbol: a:f\n  min_version: 2\n  max_version: 1\n");
    assert_eq!(problems, ["s.yaml:1: `min_version` 2 is later than `max_version` 1: no version has both"]);
}

#[test]
fn a_value_is_quoted_in_a_short_line_however_long_it_is() {
    let long = "x".repeat(1 << 20);
    for line in [
        "handler: L",
        "handler: 'msprof_rs.handlers:L'",
        "handler: 'a:b:L'",
        "min_version: L",
        "until: L",
        "sample: L",
        "dump_over: L",
        "level: L",
        "L: 1",
        "symbol: L",
        "symbol: 'a:L.*'",
        "symbol: 'L.*:b.c.d'",
        "symbol: 'a b:L'",
        "attributes: [{name: L, expr: '('}]",
        "attributes: [{name: n, expr: 'L ('}]",
        "attributes: [{name: n, expr: 'a | L'}]",
        "attributes: [{name: n, expr: 'L(a)'}]",
        "attributes: [{name: n, expr: '\"L'}]",
    ] {
        let (_, problems) = problems(&format!("- symbol: a:f\n  {}\n", line.replace('L', &long)));
        let problem = problems.last().unwrap_or_else(|| panic!("{line}"));
        assert!(problem.chars().count() < 1500, "{line}: {} characters", problem.len());
    }
}

#[test]
fn an_unknown_key_is_reported_once_in_a_file() {
    let (_, problems) = problems("- symbol: a:f\n  note: 1\n- symbol: a:g\n  note: 2\n  memo: 3\n");
    assert_eq!(problems.len(), 2, "{problems:?}");
}

#[test]
fn a_file_that_is_no_list_is_ignored_with_the_reason() {
    for (yaml, start) in [
        ("symbol: a:f\n", "s.yaml:1: the file must be a list of `- symbol: …` entries, not a map"),
        ("hello\n", "s.yaml:1: the file must be a list"),
        ("", "s.yaml:1: the file must be a list of `- symbol: …` entries, not nothing"),
        ("- symbol: a:f\n  name: [\n", "s.yaml:"),
    ] {
        let (symbols, problems) = problems(yaml);
        assert_eq!(symbols, []);
        assert!(problems.len() == 1 && problems[0].starts_with(start), "{problems:?}");
    }
}

proptest! {
    #[test]
    fn no_file_makes_it_panic(lines in prop::collection::vec(prop::sample::select(vec![
        "- symbol: a:f", "- symbol:", "  name: x", "  attributes:", "  - name: n", "    expr: return", "    expr: [", "-", "  min_version: 1",
        "  handler: {}", "  <<: *a", "- &a", "\t", "  level: .nan", "  ? [a]", "  : b", "---", "...", "!!float x", "- symbol: |",
    ]), 0..12)) {
        Table::parse(&lines.join("\n"), "s.yaml");
    }
}

#[test]
fn calls_are_sampled_and_slow_ones_noticed_as_the_entry_says() {
    let symbol = |keys: &str| quiet(&format!("- {{symbol: 'a:f', {keys}}}")).remove(0);
    assert_eq!(symbol("sample: 1/100").sample.get(), 100);
    assert_eq!(symbol("sample: 1/1").sample.get(), 1);
    let limits =
        ["500ms", "2s", "80us", "1.5 s"].map(|limit| symbol(&format!("dump_over: {limit}")).dump_over);
    assert_eq!(limits.map(|limit| limit.unwrap().as_micros()), [500_000, 2_000_000, 80, 1_500_000]);
    let (_, problems) = problems("- symbol: a:f\n  handler: b:g\n  sample: 1/2\n");
    assert_eq!(
        problems,
        ["s.yaml:1: `sample` tells the timer what to leave out; with a handler it has no effect"]
    );
}
