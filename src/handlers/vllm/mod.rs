//! vLLM v1: a file for each part of the server whose objects a handler reads.

mod batch;
pub(super) mod executor;
pub(super) mod frontend;
pub(super) mod kv_cache;
pub(super) mod scheduler;

use once_cell::sync::Lazy;

use crate::event::Name;

/// The attribute names of msServiceProfiler's records, which the tables are built from.
macro_rules! names {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        $($(#[$doc])* static $name: Lazy<Name> = Lazy::new(|| Name::new($text));)*
    };
}

names! {
    RID = "rid";
    ITER = "iter";
    TYPE = "type";
    NUM_SCHEDULED_TOKENS = "num_scheduled_tokens";
    NUM_PROMPT_TOKENS = "num_prompt_tokens";
    NUM_COMPUTED_TOKENS = "num_computed_tokens";
    BATCH_TYPE = "batch_type";
    BATCH_SIZE = "batch_size";
    QUEUE_SIZE = "QueueSize=";
    QUEUE_NAME = "scope#QueueName";
    TOTAL_BLOCKS = "TotalBlocks=";
    USED_BLOCKS = "UsedBlocks=";
    FREE_BLOCKS = "FreeBlocks=";
    USAGE_PERCENT = "UsagePercent=";
    ALLOCATED_BLOCKS = "AllocatedBlocks=";
    DEVICE_BLOCK = "deviceBlock=";
    HIT_CACHE = "hitCache";
    RECV_TOKEN_SIZE = "recvTokenSize=";
    REPLY_TOKEN_SIZE = "replyTokenSize=";
}

/// A label that is made once.
macro_rules! label {
    ($domain:literal, $name:literal) => {{
        static LABEL: Lazy<Label> = Lazy::new(|| Label::new($domain, $name));
        *LABEL
    }};
}
use label;
