//! What the servers' objects look like, and the built-in handlers that read them: a name of the symbol table's
//! `handler:` becomes a function here.
//!
//! A handler reads only what the objects really have; what is missing leaves out its datum.

mod http;
mod vllm;

use crate::hook::Handler;
use crate::symbols::BuiltIn;

/// The code of a built-in handler and the domain of its events.
pub(crate) fn code(handler: BuiltIn) -> Option<(Handler, &'static str)> {
    Some(match handler {
        BuiltIn::Schedule => (vllm::scheduler::schedule, "Schedule"),
        BuiltIn::AddRequest => (vllm::scheduler::add_request, "Schedule"),
        BuiltIn::Free => (vllm::kv_cache::free, "Schedule.KVCache"),
        BuiltIn::GetComputedBlocks => (vllm::kv_cache::get_computed_blocks, "Schedule.KVCache"),
        BuiltIn::ExecuteModel => (vllm::executor::execute_model, "Execute"),
        BuiltIn::HttpRequest => (http::request, "Server"),
        BuiltIn::HttpSend => (http::send, "Engine"),
        BuiltIn::AsyncLlmAddRequest => (vllm::frontend::add_request, "Engine"),
        BuiltIn::ProcessOutputs => (vllm::frontend::process_outputs, "Engine"),
        _ => return None,
    })
}
