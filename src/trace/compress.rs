//! Packets in fewer bytes: a packet that holds others, deflated, which trace processors unpack as they read.

use std::io::Write;

use flate2::Compression;
use flate2::write::ZlibEncoder;

use super::packet::{Encode, field};

/// These whole packets as one packet. The fastest level: the flusher does this beside a server.
pub fn compressed(packets: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::with_capacity(packets.len() / 3), Compression::fast());
    // Into memory: neither call can fail.
    let deflated = encoder.write_all(packets).and_then(|()| encoder.finish()).unwrap_or_default();
    let (mut body, mut out) =
        (Vec::with_capacity(deflated.len() + 8), Vec::with_capacity(deflated.len() + 16));
    body.bytes(field::packet::COMPRESSED_PACKETS, &deflated);
    out.bytes(field::trace::PACKET, &body);
    out
}
