//! As much of RFC 6455 as it takes to end a WebSocket between two frames. Pure.

/// A close frame of a server: 1001, "going away".
pub(crate) const GOING_AWAY: [u8; 4] = [0x88, 2, 0x03, 0xe9];
/// The same of a client, which must mask. A mask of zeros is as good as any: no intermediary is left to be fooled.
pub(crate) const GOING_AWAY_MASKED: [u8; 8] = [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe9];

const OPCODE_CLOSE: u8 = 8;
/// Two bytes, eight of extended length, four of mask.
const HEADER_BYTES_MAX: usize = 14;

/// Follows one direction of a WebSocket and knows whether a frame is under way.
#[derive(Debug, Default)]
pub(crate) struct FrameTracker {
    header: [u8; HEADER_BYTES_MAX],
    header_bytes: usize,
    payload_left: u64,
    close_seen: bool,
}

impl FrameTracker {
    pub(crate) fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.payload_left > 0 {
                let skipped = usize::try_from(self.payload_left).unwrap_or(usize::MAX).min(bytes.len());
                self.payload_left -= skipped as u64;
                bytes = &bytes[skipped..];
                continue;
            }
            self.header[self.header_bytes] = bytes[0];
            self.header_bytes += 1;
            bytes = &bytes[1..];
            if self.header_bytes >= 2 && self.header_bytes == self.header_length() {
                self.close_seen |= self.header[0] & 0x0f == OPCODE_CLOSE;
                self.payload_left = self.payload_length();
                self.header_bytes = 0;
            }
        }
    }

    pub(crate) const fn at_boundary(&self) -> bool {
        self.header_bytes == 0 && self.payload_left == 0
    }

    pub(crate) const fn close_seen(&self) -> bool {
        self.close_seen
    }

    fn header_length(&self) -> usize {
        let mask = if self.header[1] & 0x80 == 0 { 0 } else { 4 };
        let extended = match self.header[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        2 + extended + mask
    }

    fn payload_length(&self) -> u64 {
        let extended = &self.header[2..10];
        match self.header[1] & 0x7f {
            126 => u64::from(u16::from_be_bytes([extended[0], extended[1]])),
            127 => extended.iter().fold(0, |length, &byte| length << 8 | u64::from(byte)),
            short => u64::from(short),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(payload: &[u8], masked: bool, opcode: u8) -> Vec<u8> {
        let mut bytes = vec![0x80 | opcode];
        let mask_bit = if masked { 0x80 } else { 0 };
        match payload.len() {
            length @ 0..126 => bytes.push(mask_bit | u8::try_from(length).unwrap()),
            length @ 126..65536 => {
                bytes.push(mask_bit | 126);
                bytes.extend_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
            }
            length => {
                bytes.push(mask_bit | 127);
                bytes.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        if masked {
            bytes.extend_from_slice(&[1, 2, 3, 4]);
        }
        bytes.extend_from_slice(payload);
        bytes
    }

    proptest! {
        #[test]
        fn the_boundaries_are_found_whatever_the_split(
            lengths in proptest::collection::vec((prop_oneof![0_usize..300, 65_000_usize..66_000], any::<bool>()), 1..6),
            cut in 1_usize..5_000,
        ) {
            let mut boundaries = vec![0];
            let mut bytes = Vec::new();
            for (length, masked) in lengths {
                bytes.extend(frame(&vec![0x88; length], masked, 2));
                boundaries.push(bytes.len());
            }
            let mut tracker = FrameTracker::default();
            let mut at = 0;
            for piece in bytes.chunks(cut) {
                tracker.push(piece);
                at += piece.len();
                prop_assert_eq!(tracker.at_boundary(), boundaries.contains(&at), "at {}", at);
            }
            prop_assert!(!tracker.close_seen());
        }

        #[test]
        fn no_bytes_make_the_tracker_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            FrameTracker::default().push(&bytes);
        }
    }

    #[test]
    fn our_own_close_frames_are_whole_frames() {
        for bytes in [&GOING_AWAY[..], &GOING_AWAY_MASKED[..]] {
            let mut tracker = FrameTracker::default();
            tracker.push(bytes);
            assert!(tracker.at_boundary() && tracker.close_seen());
        }
    }
}
