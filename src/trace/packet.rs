//! Perfetto's wire format: field numbers and protobuf encoding. Source of the numbers: the published schema
//! (`perfetto/trace/trace_packet.proto`, `track_event.proto`, `track_descriptor.proto`, `debug_annotation.proto`).

/// Field numbers, by message.
#[allow(missing_docs, reason = "each is the number of the field of that name in Perfetto's schema")]
pub mod field {
    pub mod trace {
        pub const PACKET: u32 = 1;
    }
    pub mod packet {
        pub const CLOCK_SNAPSHOT: u32 = 6;
        pub const TIMESTAMP: u32 = 8;
        pub const TRUSTED_PACKET_SEQUENCE_ID: u32 = 10;
        pub const TRACK_EVENT: u32 = 11;
        pub const INTERNED_DATA: u32 = 12;
        pub const SEQUENCE_FLAGS: u32 = 13;
        pub const TIMESTAMP_CLOCK_ID: u32 = 58;
        pub const COMPRESSED_PACKETS: u32 = 50;
        pub const TRACE_PACKET_DEFAULTS: u32 = 59;
        pub const TRACK_DESCRIPTOR: u32 = 60;
        /// Of ours, and of no meaning to Perfetto, which passes over them: the id of the span that begins, or ends on a lane.
        pub const SPAN_ID: u32 = 2040;
        /// The header of a block.
        pub const BLOCK: u32 = 2041;
        /// A span that stands open on the sequence's track where its state is cleared.
        pub const OPEN_SPAN: u32 = 2042;
    }
    /// Of ours.
    pub mod open_span {
        pub const START: u32 = 1;
        pub const CATEGORY: u32 = 2;
        pub const NAME: u32 = 3;
        /// The span's id, if it has one.
        pub const ID: u32 = 4;
        /// How many of its thread's numbered spans were open with it when it began, if that is known.
        pub const NUMBER: u32 = 5;
    }
    pub mod packet_defaults {
        pub const TRACK_EVENT_DEFAULTS: u32 = 11;
        pub const TIMESTAMP_CLOCK_ID: u32 = 58;
    }
    pub mod track_event_defaults {
        pub const TRACK_UUID: u32 = 11;
    }
    pub mod clock_snapshot {
        pub const CLOCKS: u32 = 1;
    }
    pub mod clock {
        pub const CLOCK_ID: u32 = 1;
        pub const TIMESTAMP: u32 = 2;
        pub const IS_INCREMENTAL: u32 = 3;
    }
    pub mod interned_data {
        pub const EVENT_CATEGORIES: u32 = 1;
        pub const EVENT_NAMES: u32 = 2;
        pub const DEBUG_ANNOTATION_NAMES: u32 = 3;
        pub const DEBUG_ANNOTATION_STRING_VALUES: u32 = 29;
    }
    pub mod interned {
        pub const IID: u32 = 1;
        pub const NAME: u32 = 2;
    }
    pub mod track_descriptor {
        pub const UUID: u32 = 1;
        pub const NAME: u32 = 2;
        pub const PROCESS: u32 = 3;
        pub const THREAD: u32 = 4;
        pub const PARENT_UUID: u32 = 5;
        pub const COUNTER: u32 = 8;
        pub const CHILD_ORDERING: u32 = 11;
    }
    pub mod child_ordering {
        pub const CHRONOLOGICAL: u64 = 2;
    }
    pub mod counter {
        pub const UNIT_NAME: u32 = 6;
    }
    pub mod process {
        pub const PID: u32 = 1;
        pub const CMDLINE: u32 = 2;
        pub const PROCESS_NAME: u32 = 6;
    }
    pub mod thread {
        pub const PID: u32 = 1;
        pub const TID: u32 = 2;
        pub const THREAD_NAME: u32 = 5;
    }
    pub mod track_event {
        pub const CATEGORY_IIDS: u32 = 3;
        pub const DEBUG_ANNOTATIONS: u32 = 4;
        pub const TYPE: u32 = 9;
        pub const NAME_IID: u32 = 10;
        pub const TRACK_UUID: u32 = 11;
        pub const DOUBLE_COUNTER_VALUE: u32 = 44;
        pub const FLOW_IDS: u32 = 47;
        pub const CORRELATION_ID: u32 = 52;
    }
    pub mod event_type {
        pub const SLICE_BEGIN: u64 = 1;
        pub const SLICE_END: u64 = 2;
        pub const INSTANT: u64 = 3;
        pub const COUNTER: u64 = 4;
    }
    pub mod annotation {
        pub const NAME_IID: u32 = 1;
        pub const BOOL_VALUE: u32 = 2;
        pub const UINT_VALUE: u32 = 3;
        pub const INT_VALUE: u32 = 4;
        pub const DOUBLE_VALUE: u32 = 5;
        pub const STRING_VALUE: u32 = 6;
        pub const NESTED_VALUE: u32 = 8;
        pub const NAME: u32 = 10;
        pub const DICT_ENTRIES: u32 = 11;
        pub const ARRAY_VALUES: u32 = 12;
        pub const STRING_VALUE_IID: u32 = 17;
    }
    /// What a nested value is, also where there is nothing in it.
    pub mod nested {
        pub const TYPE: u32 = 1;
        pub const DICT: u64 = 1;
    }
    /// Ids of clocks: Perfetto's builtin ones, and our own, which is private to each sequence.
    pub mod clock_id {
        pub const REALTIME: u64 = 1;
        pub const MONOTONIC: u64 = 3;
        pub const BOOTTIME: u64 = 6;
        pub const SEQUENCE_INCREMENTAL: u64 = 64;
    }
    /// Bits of `sequence_flags`.
    pub mod sequence_flag {
        pub const INCREMENTAL_STATE_CLEARED: u64 = 1;
        pub const NEEDS_INCREMENTAL_STATE: u64 = 2;
    }
}

/// Appends protobuf fields to a buffer.
pub(super) trait Encode {
    fn varint(&mut self, value: u64);
    fn number(&mut self, field: u32, value: u64);
    fn fixed64(&mut self, field: u32, value: u64);
    fn bytes(&mut self, field: u32, value: &[u8]);
    /// A nested message, built in `scratch`, which must be empty and is left empty.
    fn message(&mut self, field: u32, scratch: &mut Vec<u8>, build: impl FnOnce(&mut Vec<u8>));
}

impl Encode for Vec<u8> {
    #[inline]
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.push(value as u8);
    }

    #[inline]
    fn number(&mut self, field: u32, value: u64) {
        self.varint(u64::from(field) << 3);
        self.varint(value);
    }

    fn fixed64(&mut self, field: u32, value: u64) {
        self.varint(u64::from(field) << 3 | 1);
        self.extend_from_slice(&value.to_le_bytes());
    }

    #[inline]
    fn bytes(&mut self, field: u32, value: &[u8]) {
        self.varint(u64::from(field) << 3 | 2);
        self.varint(value.len() as u64);
        self.extend_from_slice(value);
    }

    fn message(&mut self, field: u32, scratch: &mut Vec<u8>, build: impl FnOnce(&mut Vec<u8>)) {
        build(scratch);
        self.bytes(field, scratch);
        scratch.clear();
    }
}
