//! What an entry of the symbol table does with a call: times it, or hands it to a handler.

use super::target::is_identifier;

/// The `handler` of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandlerRef {
    /// A span from call to return, with the entry's attributes.
    Timer,
    /// A handler of ours.
    BuiltIn(BuiltIn),
    /// A handler of the user's, to be imported.
    Custom {
        /// The dotted name of its module.
        module: String,
        /// Its name there.
        function: String,
    },
}

macro_rules! built_in_handlers {
    ($($(#[$doc:meta])* $variant:ident = $name:literal $(, $other:literal)?;)*) => {
        /// The handlers that come with this profiler. Each has a name of ours, and the one by which the symbol files
        /// of msServiceProfiler know it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum BuiltIn {
            $($(#[$doc])* $variant,)*
        }

        /// Handler, our name, the name in msServiceProfiler's `handlers.v1` package where that has it.
        const BUILT_IN: &[(BuiltIn, &str, &[&str])] = &[$((BuiltIn::$variant, $name, &[$($other)?]),)*];
    };
}

built_in_handlers! {
    /// A scheduler step: the batch, the queues, the KV cache.
    Schedule = "schedule", "batch_handlers:schedule";
    /// A request enters the scheduler's waiting queue.
    AddRequest = "add_request", "batch_handlers:add_request";
    /// A request's KV blocks are given back.
    Free = "free", "kvcache_handlers:free";
    /// The share of a prompt that the prefix cache has.
    GetComputedBlocks = "get_computed_blocks", "kvcache_handlers:get_computed_blocks";
    /// The model runs a batch, seen from the engine.
    ExecuteModel = "execute_model", "model_handlers:execute_model";
    /// A request arrives at the API server.
    AsyncLlmAddRequest = "async_llm_add_request", "request_handlers:add_request_async";
    /// An HTTP request is served.
    HttpRequest = "http_request";
    /// A piece of an HTTP response goes out.
    HttpSend = "http_send";
    /// Outputs go back to the clients.
    ProcessOutputs = "process_outputs", "request_handlers:process_outputs";
    /// The logits are computed.
    ComputeLogits = "compute_logits", "model_handlers:compute_logits";
    /// Tokens are sampled.
    SamplerForward = "sampler_forward", "model_handlers:sampler_forward";
    /// The model runs a batch, seen from the worker.
    ExecuteModelRunner = "execute_model_runner", "model_handlers:execute_model_runner";
    /// The parts of a worker's step, as vLLM-Ascend up to 0.14 marks them.
    CaptureAsync = "capture_async", "model_handlers:capture_async";
    /// The parts of a worker's step, as vLLM from 0.15 marks them.
    RecordFunction = "record_function_or_nullcontext", "model_handlers:record_function_or_nullcontext";
    /// Tokens are drafted for speculative decoding.
    ProposeDraftTokenIds = "propose_draft_token_ids", "mtp_handlers:propose_draft_token_ids_npu";
    /// How many drafted tokens were accepted.
    CaptureRejectionOutput = "capture_rejection_output", "mtp_handlers:capture_rejection_output";
    /// The engine's data-parallel rank.
    InitDataParallel = "init_data_parallel", "meta_handlers:init_data_parallel";
    /// The worker's data-parallel rank.
    InitDataParallelWorker = "init_data_parallel_worker", "meta_handlers:init_data_parallel_worker";
}

/// Where our own handlers are said to live.
const OURS: &str = "msprof_rs.handlers";
/// Where msServiceProfiler's files say that theirs live.
const THEIRS: &str = "ms_service_profiler.patcher.vllm.handlers.";

impl BuiltIn {
    /// Its name after `msprof_rs.handlers:`.
    pub fn name(self) -> &'static str {
        BUILT_IN.iter().find(|row| row.0 == self).map_or("", |row| row.1)
    }
}

impl HandlerRef {
    /// Reads the text of a `handler`, in which a colon or a last dot stands before the function's name.
    ///
    /// # Errors
    /// The text names no handler and the timer is to be used; the message says why.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.is_empty() || text == "timer" {
            return Ok(Self::Timer);
        }
        let Some((module, function)) = text.rsplit_once([':', '.']) else {
            return Err(format!(
                "the handler {text:?} is neither `timer` nor `package.module:function`; the timer is used"
            ));
        };
        if !is_identifier(function) || !module.split('.').all(is_identifier) {
            return Err(format!(
                "the handler {text:?} is not of the form `package.module:function`; the timer is used"
            ));
        }
        if module == OURS {
            let found = BUILT_IN.iter().find(|row| row.1 == function);
            return found.map(|row| Self::BuiltIn(row.0)).ok_or_else(|| {
                let names = BUILT_IN.iter().map(|row| row.1).collect::<Vec<_>>().join(", ");
                format!("there is no built-in handler {function:?}, the timer is used; there are: {names}")
            });
        }
        if let Some(package) = module.strip_prefix(THEIRS) {
            // The file's name is enough: `v1.batch_handlers`.
            let file = package.rsplit('.').next().unwrap_or(package);
            let is_it = |name: &str| name.split_once(':') == Some((file, function));
            let found = BUILT_IN
                .iter()
                .find(|row| row.2.iter().any(|name| is_it(name)) && package.starts_with("v1."));
            return found.map(|row| Self::BuiltIn(row.0)).ok_or_else(|| {
                format!("msServiceProfiler's handler {text:?} has no counterpart here; the timer is used")
            });
        }
        Ok(Self::Custom { module: module.into(), function: function.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timer_is_what_nothing_and_timer_mean() {
        for text in ["", "timer", " timer "] {
            assert_eq!(HandlerRef::parse(text), Ok(HandlerRef::Timer), "{text:?}");
        }
    }

    #[test]
    fn every_built_in_handler_answers_to_our_name_and_to_msserviceprofilers() {
        for (built_in, ours, theirs) in BUILT_IN {
            let expected = Ok(HandlerRef::BuiltIn(*built_in));
            assert_eq!(built_in.name(), *ours);
            assert_eq!(HandlerRef::parse(&format!("{OURS}:{ours}")), expected);
            assert_eq!(HandlerRef::parse(&format!("{OURS}.{ours}")), expected);
            for theirs in *theirs {
                assert_eq!(HandlerRef::parse(&format!("{THEIRS}v1.{theirs}")), expected);
                assert_eq!(HandlerRef::parse(&format!("{THEIRS}v1.{}", theirs.replace(':', "."))), expected);
            }
        }
    }

    #[test]
    fn a_handler_of_the_users_may_be_written_with_a_colon_or_a_dot() {
        let guide = "ms_service_profiler.patcher.config.custom_handler_example";
        for (text, module, function) in [
            ("pkg.mod:func", "pkg.mod", "func"),
            ("pkg.mod.func", "pkg.mod", "func"),
            ("mod:func", "mod", "func"),
            (
                &format!("{guide}.kvcache_manager_free_example_handler"),
                guide,
                "kvcache_manager_free_example_handler",
            ),
        ] {
            let expected = HandlerRef::Custom { module: module.into(), function: function.into() };
            assert_eq!(HandlerRef::parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_names_no_handler_is_refused_with_the_reason() {
        let cases = [
            ("tmier", "neither `timer` nor"),
            ("pkg.mod:", "not of the form"),
            ("pkg:mod:func", "not of the form"),
            ("pkg mod:func", "not of the form"),
            ("msprof_rs.handlers:scedule", "there are: schedule, add_request"),
            ("ms_service_profiler.patcher.vllm.handlers.v1.batch_handlers:nothing", "no counterpart"),
            ("ms_service_profiler.patcher.vllm.handlers.v0.batch_handlers:schedule", "no counterpart"),
        ];
        for (text, message) in cases {
            let error = HandlerRef::parse(text).expect_err(text);
            assert!(error.contains(message), "{text}: {error}");
        }
    }
}
