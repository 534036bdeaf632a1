//! What the servers' objects look like, and the built-in handlers that read them: a name of the symbol table's
//! `handler:` becomes a function here.
//!
//! A handler reads only what the objects really have; what is missing leaves out its datum, is counted, and said once.

#![allow(clippy::unnecessary_wraps, reason = "all handlers have one type")]

mod http;
mod record;
mod role;
mod sglang;
mod vllm;

use crate::hook::Handler;
use crate::symbols::BuiltIn;

/// The code of a built-in handler and the domain of its events; no domain: it acts also when nothing is collected.
pub(crate) fn code(handler: BuiltIn) -> (Handler, Option<&'static str>) {
    use BuiltIn as B;
    use sglang::{scheduler as sgl, tokenizer as sgt};
    use vllm::{executor, frontend, kv_cache, runner, scheduler};

    let (code, domain): (Handler, &'static str) = match handler {
        B::HttpRequest => (http::request, "Server"),
        B::HttpSend => (http::send, "Engine"),
        B::AsyncLlmAddRequest => (frontend::add_request, "Engine"),
        B::ProcessOutputs => (frontend::process_outputs, "Engine"),
        B::EngineAddRequest => (scheduler::engine_add_request, "Engine"),
        B::Schedule => (scheduler::schedule, "Schedule"),
        B::AddRequest => (scheduler::add_request, "Schedule"),
        B::PreemptRequest => (scheduler::preempt_request, "Schedule"),
        B::FinishRequests => (scheduler::finish_requests, "Engine"),
        B::UpdateFromOutput => (scheduler::update_from_output, "Schedule"),
        B::Free => (kv_cache::free, "Schedule.KVCache"),
        B::AllocateSlots => (kv_cache::allocate_slots, "Schedule.KVCache"),
        B::GetComputedBlocks => (kv_cache::get_computed_blocks, "Schedule.KVCache"),
        B::ExecuteModel => (executor::execute_model, "Execute"),
        B::SampleTokens => (executor::sample_tokens, "Execute"),
        B::ExecuteModelRunner => (runner::execute_model_runner, "Execute"),
        B::ComputeLogits => (runner::compute_logits, "Execute"),
        B::SamplerForward => (runner::sampler_forward, "Execute"),
        B::CaptureAsync | B::RecordFunction => (runner::part, "Execute"),
        B::ProposeDraftTokenIds => (runner::propose_draft_token_ids, "Execute"),
        B::CaptureRejectionOutput => (runner::capture_rejection_output, "Execute"),
        B::InitDataParallel => return (role::engine_core_by_request, None),
        B::InitDataParallelWorker => return (role::worker_by_runner, None),
        B::ApiServerRole => return (role::api_server, None),
        B::EngineCoreRole => return (role::engine_core, None),
        B::WorkerRole => return (role::worker, None),
        B::SglSchedulerRole => return (role::sglang_scheduler, None),
        B::SglTokenizerRole => return (role::sglang_tokenizer, None),
        B::SglDetokenizerRole => return (role::sglang_detokenizer, None),
        B::SglReceive => (sgl::receive, "Schedule"),
        B::SglProcessRequest => (sgl::process_request, "Schedule"),
        B::SglNextBatch => (sgl::next_batch, "Schedule"),
        B::SglEnqueue => (sgl::enqueue, "Schedule"),
        B::SglDequeue => (sgl::dequeue, "Schedule"),
        B::SglRunBatch => (sgl::run_batch, "ModelExecute"),
        B::SglProcessResult => (sgl::process_result, "ModelExecute"),
        B::SglPreprocess => (sgl::preprocess, "ModelExecute"),
        B::SglForward => (sgl::forward, "ModelExecute"),
        B::SglSample => (sgl::sample, "ModelExecute"),
        B::SglHitCache => (sgl::hit_cache, "HitCache"),
        B::SglPrefillEnd => (sgl::prefill_end, "Request"),
        B::SglDecodeEnd => (sgl::decode_end, "Request"),
        B::SglHttpRequest => (sgt::http_request, "Request"),
        B::SglTokenize => (sgt::tokenize, "Request"),
        B::SglTokenizeBatch => (sgt::tokenize_batch, "Request"),
        B::SglSend => (sgt::send, "Request"),
        B::SglResponse => (sgt::response, "Request"),
        B::SglDetokenize => (sgt::detokenize, "Request"),
    };
    (code, Some(domain))
}
