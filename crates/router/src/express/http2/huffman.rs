//! The Huffman code of HPACK (RFC 7541, appendix B). Pure.
//!
//! The code is canonical: the lengths say everything, because among codes of one length the symbols are in order.

/// How many bits each byte takes.
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28,
    28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12,
    10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6,
    5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22,
    22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20,
    22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28,
    27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28,
    27, 27, 27, 27, 27, 26,
];

const LENGTH_MAX: usize = 30;
/// The end-of-string symbol has the last code: thirty ones.
const END_CODE: u32 = (1 << LENGTH_MAX) - 1;

/// Codes up to this length are found in one step; that is all of ASCII's letters and digits.
const FAST_BITS: usize = 10;

struct Tables {
    /// By the next ten bits: the symbol, and the length of its code; 0 where that is longer.
    fast: [(u8, u8); 1 << FAST_BITS],
    /// The symbols in the order of their codes.
    symbols: [u8; 256],
    /// By length: the first code, and where its symbol stands in `symbols`.
    first: [(u32, u32); LENGTH_MAX + 2],
}

static TABLES: Tables = tables();

const fn tables() -> Tables {
    let mut tables = Tables { fast: [(0, 0); 1 << FAST_BITS], symbols: [0; 256], first: [(0, 0); LENGTH_MAX + 2] };
    let (mut length, mut code, mut index) = (1_usize, 0_u32, 0_u32);
    while length <= LENGTH_MAX {
        code <<= 1;
        tables.first[length] = (code, index);
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] as usize == length {
                tables.symbols[index as usize] = symbol.to_le_bytes()[0];
                if length <= FAST_BITS {
                    let shift = FAST_BITS - length;
                    let mut at = (code as usize) << shift;
                    while at < (code as usize + 1) << shift {
                        tables.fast[at] = (symbol.to_le_bytes()[0], LENGTHS[symbol]);
                        at += 1;
                    }
                }
                code += 1;
                index += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    assert!(code == END_CODE, "the lengths do not make a whole code");
    tables
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HuffmanFault;

/// Appends what `bytes` stand for.
///
/// # Errors
/// They hold the end-of-string symbol, or are filled up with something else than its first bits.
pub(super) fn decode(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), HuffmanFault> {
    // The next bits stand at the top of `bits`.
    let (mut bits, mut count) = (0_u64, 0_usize);
    let mut bytes = bytes.iter();
    loop {
        while count <= 56 {
            let Some(&byte) = bytes.next() else { break };
            bits |= u64::from(byte) << (56 - count);
            count += 8;
        }
        let (symbol, length) = TABLES.fast[(bits >> (64 - FAST_BITS)) as usize];
        let (symbol, length) = match usize::from(length) {
            0 => long(bits).ok_or(HuffmanFault)?,
            length => (symbol, length),
        };
        if length > count {
            // Less than one byte of ones is left, or nothing.
            let filled = bits | (u64::MAX >> count) == u64::MAX;
            return if count < 8 && filled { Ok(()) } else { Err(HuffmanFault) };
        }
        out.push(symbol);
        bits <<= length;
        count -= length;
    }
}

/// A symbol whose code is longer than the fast table knows; `None` for the end of the string.
fn long(bits: u64) -> Option<(u8, usize)> {
    let mut length = FAST_BITS + 1;
    while length <= LENGTH_MAX {
        let code = u32::try_from(bits >> (64 - length)).ok()?;
        let (first, index) = TABLES.first[length];
        let end = TABLES.first[length + 1].1;
        let number = code.wrapping_sub(first);
        if code >= first && (length == LENGTH_MAX || number < end - index) {
            return TABLES.symbols.get((index + number) as usize).map(|symbol| (*symbol, length));
        }
        length += 1;
    }
    None
}

#[cfg(test)]
pub(super) fn encode(bytes: &[u8], out: &mut Vec<u8>) {
    let (mut bits, mut count) = (0_u64, 0_usize);
    for &byte in bytes {
        let length = usize::from(LENGTHS[usize::from(byte)]);
        let (first, index) = TABLES.first[length];
        let number = TABLES.symbols[index as usize..].iter().position(|symbol| *symbol == byte).unwrap();
        bits = (bits << length) | (u64::from(first) + number as u64);
        count += length;
        while count >= 8 {
            count -= 8;
            out.push((bits >> count).to_le_bytes()[0]);
        }
    }
    if count > 0 {
        out.push(((bits << (8 - count)) | (0xff >> count)).to_le_bytes()[0]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(bytes: &[u8]) -> Result<Vec<u8>, HuffmanFault> {
        let mut out = Vec::new();
        decode(bytes, &mut out).map(|()| out)
    }

    #[test]
    fn the_examples_of_the_rfc_are_read() {
        let check = |bytes: &[u8], text: &str| assert_eq!(decoded(bytes).unwrap(), text.as_bytes());
        check(b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff", "www.example.com");
        check(b"\xa8\xeb\x10\x64\x9c\xbf", "no-cache");
        check(b"\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f", "custom-key");
        check(b"\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf", "custom-value");
        check(b"\x64\x02", "302");
        check(b"", "");
    }

    #[test]
    fn wrong_ends_are_faults() {
        // A whole byte of filling; filling with zeros; the end-of-string symbol.
        for bytes in [&b"\x07\xff"[..], b"\x00\xff\xff", b"\x08", b"\xff\xff\xff\xff", b"\xff"] {
            assert_eq!(decoded(bytes), Err(HuffmanFault), "{bytes:x?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut encoded = Vec::new();
            encode(&bytes, &mut encoded);
            prop_assert_eq!(decoded(&encoded).unwrap(), bytes);
        }

        #[test]
        fn what_is_decoded_was_encoded_so(bytes in proptest::collection::vec(any::<u8>(), 0..20)) {
            if let Ok(text) = decoded(&bytes) {
                let mut encoded = Vec::new();
                encode(&text, &mut encoded);
                prop_assert_eq!(encoded, bytes);
            }
        }
    }
}
