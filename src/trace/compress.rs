//! Packets in fewer bytes: a packet that holds others, deflated, which trace processors unpack as they read.

use std::io::{self, Read, Write};

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;

use super::block::Header;
use super::fields::{Fields, Wire};
use super::packet::{Encode, field};
use super::part::Part;
use super::walk::{Section, Walk};

/// The most that one packet may hold, unpacked. Ours hold a piece of a ring, Perfetto's some hundred kilobytes.
const MOST: u64 = 64 << 20;

/// These whole packets as one packet. The fastest level: the flusher does this beside a server.
pub(crate) fn compressed(packets: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::with_capacity(packets.len() / 3), Compression::fast());
    // Into memory: neither call can fail.
    let deflated = encoder.write_all(packets).and_then(|()| encoder.finish()).unwrap_or_default();
    let (mut body, mut out) =
        (Vec::with_capacity(deflated.len() + 8), Vec::with_capacity(deflated.len() + 16));
    body.bytes(field::packet::COMPRESSED_PACKETS, &deflated);
    out.bytes(field::trace::PACKET, &body);
    out
}

/// Writes the packets of `part` to `out`, those that are in others as packets of their own. Blocks stay blocks, and those
/// that are damaged are left out. What makes no sense elsewhere is written as it is, for the index to find it damaged.
///
/// # Errors
/// `out` can't be written to.
pub fn unpack(part: &Part, out: &mut impl Write) -> io::Result<()> {
    let (mut walk, mut in_stream) = (Walk::new(part), false);
    let mut body = Vec::new();
    while let Some(section) = walk.section(in_stream) {
        match section {
            Section::Damage(_) => {}
            Section::Block(header) => {
                in_stream = !header.is_last;
                body.clear();
                if packets(&mut walk, part, &mut Bounded(&mut body)).is_err() {
                    continue; // the next block's number tells of it
                }
                let (length, checksum) = (body.len() as u32, crc32fast::hash(&body));
                out.write_all(&Header { length, checksum, ..header }.encode())?;
                out.write_all(&body)?;
            }
            Section::Torn(header) => {
                out.write_all(&header.encode())?;
                part.copy(walk.position()..walk.end(), out)?;
            }
            Section::Loose => packets(&mut walk, part, out)?,
        }
    }
    Ok(())
}

/// A block's packets, of which [`MOST`] bytes are taken.
struct Bounded<'a>(&'a mut Vec<u8>);

impl Write for Bounded<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if (self.0.len() + bytes.len()) as u64 > MOST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes the packets of a section.
fn packets(walk: &mut Walk<'_>, part: &Part, out: &mut impl Write) -> io::Result<()> {
    loop {
        let start = walk.position();
        let Ok(Some((_, value))) = walk.packet() else {
            return part.copy(start..walk.end(), out);
        };
        let inflated = packed(value).and_then(|deflated| {
            let mut packets = Vec::new();
            let read = ZlibDecoder::new(deflated).take(MOST).read_to_end(&mut packets);
            (read.is_ok() && (packets.len() as u64) < MOST).then_some(packets)
        });
        out.write_all(inflated.as_deref().unwrap_or(walk.bytes()))?;
    }
}

fn packed(value: Wire<'_>) -> Option<&[u8]> {
    let mut packet = Fields(value.bytes());
    while let Ok(Some((field, value))) = packet.next() {
        if field == field::packet::COMPRESSED_PACKETS {
            return Some(value.bytes());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::Index;
    use super::*;

    fn packets(count: u32) -> Vec<u8> {
        let mut packets = Vec::new();
        for n in 0..count {
            let mut body = Vec::new();
            body.number(field::packet::TIMESTAMP, u64::from(n));
            packets.bytes(field::trace::PACKET, &body);
        }
        packets
    }

    fn unpacked(file: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        unpack(&Part::from(file.to_vec()), &mut out).unwrap();
        out
    }

    #[test]
    fn what_was_packed_comes_out_as_it_was() {
        let (plain, packed) = (packets(5_000), compressed(&packets(5_000)));
        assert!(packed.len() * 3 < plain.len());
        assert_eq!([&packed, &plain].map(|file| Index::of(&[Part::from(file.clone())]).packed), [1, 0]);
        assert_eq!(unpacked(&packed), plain);
        assert_eq!(
            unpacked(&[packets(3), packed, packets(2)].concat()),
            [packets(3), plain, packets(2)].concat()
        );
    }

    #[test]
    fn a_cut_or_damaged_end_stays_for_the_index_to_tell() {
        let file = [packets(3), compressed(&packets(500))].concat();
        for end in 0..file.len() {
            let expected = if end < packets(3).len() { &file[..end] } else { &packets(3)[..] };
            assert!(unpacked(&file[..end]).starts_with(expected));
            assert!(unpacked(&file[..end]).len() <= end, "nothing is made up");
        }
        let mut damaged = file.clone();
        damaged[packets(3).len() + 20] ^= 0xff;
        assert!(unpacked(&damaged).starts_with(&packets(3)));
    }

    #[test]
    fn a_bomb_is_not_unpacked() {
        let bomb = compressed(&vec![0; MOST as usize + 1]);
        assert_eq!(unpacked(&bomb), bomb);
    }
}
