//! What an entry of the symbol table does with a call: times it, or hands it to a handler.

use super::target::is_identifier;
use crate::printable::quoted;

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
    ($($(#[$doc:meta])* $variant:ident = $name:literal $(, $other:literal)*;)*) => {
        /// The handlers that come with this profiler. Each has a name of ours, and those by which the symbol files
        /// of msServiceProfiler know it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum BuiltIn {
            $($(#[$doc])* $variant,)*
        }

        /// Handler, our name, the names below msServiceProfiler's `patcher` where that has it.
        const BUILT_IN: &[(BuiltIn, &str, &[&str])] = &[$((BuiltIn::$variant, $name, &[$($other),*]),)*];
    };
}

built_in_handlers! {
    /// An HTTP request is served.
    HttpRequest = "http_request";
    /// A piece of an HTTP response goes out.
    HttpSend = "http_send";
    /// A request arrives at the API server.
    AsyncLlmAddRequest = "async_llm_add_request", "vllm.handlers.v1.request_handlers:add_request_async";
    /// Outputs go back to the clients.
    ProcessOutputs = "process_outputs", "vllm.handlers.v1.request_handlers:process_outputs";
    /// A request reaches the engine.
    EngineAddRequest = "engine_add_request";
    /// A scheduler step: the batch, the queues, the KV cache.
    Schedule = "schedule", "vllm.handlers.v1.batch_handlers:schedule";
    /// A request enters the scheduler's waiting queue.
    AddRequest = "add_request", "vllm.handlers.v1.batch_handlers:add_request";
    /// A running request has to wait again.
    PreemptRequest = "preempt_request";
    /// Requests are ended from outside.
    FinishRequests = "finish_requests";
    /// The requests get the tokens of a step.
    UpdateFromOutput = "update_from_output";
    /// A request's KV blocks are given back.
    Free = "free", "vllm.handlers.v1.kvcache_handlers:free";
    /// A request can't get the KV blocks that it needs.
    AllocateSlots = "allocate_slots";
    /// The share of a prompt that the prefix cache has.
    GetComputedBlocks = "get_computed_blocks", "vllm.handlers.v1.kvcache_handlers:get_computed_blocks";
    /// The model runs a batch, seen from the engine.
    ExecuteModel = "execute_model", "vllm.handlers.v1.model_handlers:execute_model";
    /// The second half of that, where sampling is a call of its own.
    SampleTokens = "sample_tokens";
    /// The model runs a batch, seen from the worker.
    ExecuteModelRunner = "execute_model_runner", "vllm.handlers.v1.model_handlers:execute_model_runner";
    /// The logits are computed.
    ComputeLogits = "compute_logits", "vllm.handlers.v1.model_handlers:compute_logits";
    /// Tokens are sampled.
    SamplerForward = "sampler_forward", "vllm.handlers.v1.model_handlers:sampler_forward";
    /// The parts of a worker's step, as vLLM-Ascend up to 0.14 marks them.
    CaptureAsync = "capture_async", "vllm.handlers.v1.model_handlers:capture_async";
    /// The parts of a worker's step, as vLLM marks them.
    RecordFunction = "record_function_or_nullcontext", "vllm.handlers.v1.model_handlers:record_function_or_nullcontext";
    /// Tokens are drafted for speculative decoding.
    ProposeDraftTokenIds = "propose_draft_token_ids", "vllm.handlers.v1.mtp_handlers:propose_draft_token_ids_npu";
    /// How many drafted tokens were accepted.
    CaptureRejectionOutput = "capture_rejection_output", "vllm.handlers.v1.mtp_handlers:capture_rejection_output";
    /// The engine's data-parallel rank, at a request.
    InitDataParallel = "init_data_parallel", "vllm.handlers.v1.meta_handlers:init_data_parallel";
    /// The worker's data-parallel rank, at a step.
    InitDataParallelWorker = "init_data_parallel_worker", "vllm.handlers.v1.meta_handlers:init_data_parallel_worker";
    /// This process is an API server.
    ApiServerRole = "api_server_role";
    /// This process is an engine.
    EngineCoreRole = "engine_core_role";
    /// This process is a worker.
    WorkerRole = "worker_role";
    /// This process is a scheduler of SGLang.
    SglSchedulerRole = "sglang_scheduler_role";
    /// This process has SGLang's HTTP server and tokenizer.
    SglTokenizerRole = "sglang_tokenizer_role";
    /// This process is SGLang's detokenizer.
    SglDetokenizerRole = "sglang_detokenizer_role";
    /// SGLang's scheduler has received requests.
    SglReceive = "sglang_recv_requests", "sglang.handlers.scheduler_handlers:recv_requests";
    /// It looks at one of them.
    SglProcessRequest = "sglang_process_request", "sglang.handlers.scheduler_handlers:request_dispatcher";
    /// It puts a batch together.
    SglNextBatch = "sglang_next_batch", "sglang.handlers.scheduler_handlers:get_next_batch_to_run";
    /// A request enters a queue.
    SglEnqueue = "sglang_enqueue", "sglang.handlers.scheduler_handlers:add_request_to_queue";
    /// Requests leave it.
    SglDequeue = "sglang_dequeue", "sglang.handlers.scheduler_handlers:get_new_batch_prefill";
    /// The batch runs.
    SglRunBatch = "sglang_run_batch", "sglang.handlers.scheduler_handlers:run_batch";
    /// Its result is looked at.
    SglProcessResult = "sglang_process_result", "sglang.handlers.scheduler_handlers:process_batch_result";
    /// A prefill has ended.
    SglPrefillEnd = "sglang_prefill_end", "sglang.handlers.scheduler_handlers:process_batch_result_prefill";
    /// A decode step has ended.
    SglDecodeEnd = "sglang_decode_end", "sglang.handlers.scheduler_handlers:process_batch_result_decode";
    /// The share of a prompt that SGLang's prefix cache has.
    SglHitCache = "sglang_hit_cache", "sglang.handlers.scheduler_handlers:init_next_round_input";
    /// The model's inputs are made.
    SglPreprocess = "sglang_preprocess", "sglang.handlers.model_handlers:init_new";
    /// The model's forward pass.
    SglForward = "sglang_forward", "sglang.handlers.model_handlers:forward";
    /// Tokens are sampled.
    SglSample = "sglang_sample", "sglang.handlers.model_handlers:sample";
    /// A request arrives at SGLang's server.
    SglHttpRequest = "sglang_http_request", "sglang.handlers.request_handlers:normalize_batch_and_arguments";
    /// It is tokenized.
    SglTokenize = "sglang_tokenize", "sglang.handlers.request_handlers:tokenize_one_request";
    /// Several are tokenized at once.
    SglTokenizeBatch = "sglang_tokenize_batch", "sglang.handlers.request_handlers:batch_tokenize_and_process";
    /// It is sent to the scheduler.
    SglSend = "sglang_send",
        "sglang.handlers.request_handlers:send_one_request",
        "sglang.handlers.request_handlers:send_batch_request";
    /// A piece of its answer is there.
    SglResponse = "sglang_response", "sglang.handlers.request_handlers:wait_one_response";
    /// Tokens become text.
    SglDetokenize = "sglang_detokenize", "sglang.handlers.request_handlers:handle_batch_token_id_out";
}

/// Where our own handlers are said to live.
const OURS: &str = "msprof_rs.handlers";
/// Where msServiceProfiler's files say that theirs live.
const THEIRS: &str = "ms_service_profiler.patcher.";

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
            let text = quoted(text);
            return Err(format!(
                "the handler {text} is neither `timer` nor `package.module:function`; the timer is used"
            ));
        };
        if !is_identifier(function) || !module.split('.').all(is_identifier) {
            let text = quoted(text);
            return Err(format!(
                "the handler {text} is not of the form `package.module:function`; the timer is used"
            ));
        }
        if module == OURS {
            let found = BUILT_IN.iter().find(|row| row.1 == function);
            return found.map(|row| Self::BuiltIn(row.0)).ok_or_else(|| {
                let names = BUILT_IN.iter().map(|row| row.1).collect::<Vec<_>>().join(", ");
                let function = quoted(function);
                format!("there is no built-in handler {function}, the timer is used; there are: {names}")
            });
        }
        if let Some(package) = module.strip_prefix(THEIRS).filter(|package| package.contains(".handlers.")) {
            let is_it = |name: &&str| name.rsplit_once(':') == Some((package, function));
            let found = BUILT_IN.iter().find(|row| row.2.iter().any(&is_it));
            return found.map(|row| Self::BuiltIn(row.0)).ok_or_else(|| {
                let text = quoted(text);
                format!("msServiceProfiler's handler {text} has no counterpart here; the timer is used")
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
                assert_eq!(HandlerRef::parse(&format!("{THEIRS}{theirs}")), expected);
                assert_eq!(HandlerRef::parse(&format!("{THEIRS}{}", theirs.replace(':', "."))), expected);
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
            ("msprof_rs.handlers:scedule", "there are: http_request, http_send"),
            ("ms_service_profiler.patcher.vllm.handlers.v1.batch_handlers:nothing", "no counterpart"),
            ("ms_service_profiler.patcher.vllm.handlers.v0.batch_handlers:schedule", "no counterpart"),
        ];
        for (text, message) in cases {
            let error = HandlerRef::parse(text).expect_err(text);
            assert!(error.contains(message), "{text}: {error}");
        }
    }
}
