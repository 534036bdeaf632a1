//! What the servers' objects look like, and the built-in handlers that read them: a name of the symbol table's
//! `handler:` becomes a function here.
//!
//! A handler reads only what the objects really have; what is missing leaves out its datum.

mod vllm;

use crate::hook::Handler;
use crate::symbols::BuiltIn;

/// The code of a built-in handler.
pub(crate) fn code(handler: BuiltIn) -> Option<Handler> {
    Some(match handler {
        BuiltIn::Schedule => vllm::scheduler::schedule,
        BuiltIn::AddRequest => vllm::scheduler::add_request,
        BuiltIn::Free => vllm::kv_cache::free,
        BuiltIn::GetComputedBlocks => vllm::kv_cache::get_computed_blocks,
        BuiltIn::ExecuteModel => vllm::executor::execute_model,
        BuiltIn::AsyncLlmAddRequest => vllm::frontend::add_request,
        BuiltIn::ProcessOutputs => vllm::frontend::process_outputs,
        _ => return None,
    })
}
