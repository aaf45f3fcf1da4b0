//! Header compression (RFC 7541): all of it from the client, and to the client as much as costs nothing. Pure.
//!
//! Answers are written without the dynamic table: known names by their number, everything else as it is. Bytes that
//! are copied once are cheaper than a table for each connection, and what is never kept can never leak (RFC 7541, 7).

use std::collections::VecDeque;

use super::header_list::{FIELD_OVERHEAD, HeaderList};
use super::huffman;
use super::static_table::{self, FIELDS};

/// What a client may make the router remember: the value that both sides begin with.
pub(super) const TABLE_BYTES_MAX: usize = 4_096;

/// Anything in a block that cannot be. The connection is of no more use: nobody knows what the tables hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HpackFault;

#[derive(Debug)]
pub(super) struct Decoder {
    /// Newest first.
    table: VecDeque<Entry>,
    bytes: usize,
    bytes_max: usize,
    /// Of a string that is being read.
    text: Vec<u8>,
}

#[derive(Debug)]
struct Entry {
    /// Name and value.
    text: Box<[u8]>,
    name_length: usize,
}

impl Entry {
    fn parts(&self) -> (&[u8], &[u8]) {
        self.text.split_at(self.name_length)
    }

    fn size(&self) -> usize {
        self.text.len() + FIELD_OVERHEAD
    }
}

impl Decoder {
    pub(super) const fn new() -> Self {
        Self { table: VecDeque::new(), bytes: 0, bytes_max: TABLE_BYTES_MAX, text: Vec::new() }
    }

    /// Reads a whole block into `list`, which is cut at `size_max`: a few bytes can stand for very many.
    ///
    /// # Errors
    /// The block cannot be read.
    pub(super) fn decode(
        &mut self,
        mut block: &[u8],
        list: &mut HeaderList,
        size_max: usize,
    ) -> Result<(), HpackFault> {
        let mut fields_begun = false;
        while let Some(&first) = block.first() {
            // RFC 7541, 4.2: sizes change at the beginning only.
            if first & 0xe0 == 0x20 {
                let size = integer(&mut block, 5)?;
                if fields_begun || size > TABLE_BYTES_MAX {
                    return Err(HpackFault);
                }
                self.bytes_max = size;
                self.shrink(size);
                continue;
            }
            fields_begun = true;
            if first & 0x80 != 0 {
                let (name, value) = self.field(integer(&mut block, 7)?)?;
                list.push(name, value, size_max);
                continue;
            }
            let remembered = first & 0x40 != 0;
            let index = integer(&mut block, if remembered { 6 } else { 4 })?;
            self.name(&mut block, index)?;
            let name_length = self.text.len();
            string(&mut block, &mut self.text)?;
            let (name, value) = self.text.split_at(name_length);
            list.push(name, value, size_max);
            if remembered {
                self.remember(name_length);
            }
        }
        Ok(())
    }

    /// Makes `text` the name of a literal field.
    fn name(&mut self, block: &mut &[u8], index: usize) -> Result<(), HpackFault> {
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        if index == 0 {
            string(block, &mut text)?;
        } else {
            text.extend_from_slice(self.field(index)?.0);
        }
        self.text = text;
        Ok(())
    }

    fn field(&self, index: usize) -> Result<(&[u8], &[u8]), HpackFault> {
        let at = index.checked_sub(1).ok_or(HpackFault)?;
        if let Some((name, value)) = FIELDS.get(at) {
            return Ok((name.as_bytes(), value.as_bytes()));
        }
        self.table.get(at - FIELDS.len()).map(Entry::parts).ok_or(HpackFault)
    }

    /// Puts the field in `text` into the table.
    fn remember(&mut self, name_length: usize) {
        let size = self.text.len() + FIELD_OVERHEAD;
        // One that is too large for the table empties it (RFC 7541, 4.4).
        self.shrink(self.bytes_max.saturating_sub(size));
        if size <= self.bytes_max {
            self.bytes += size;
            self.table.push_front(Entry { text: self.text.as_slice().into(), name_length });
        }
    }

    fn shrink(&mut self, bytes: usize) {
        while self.bytes > bytes
            && let Some(oldest) = self.table.pop_back()
        {
            self.bytes -= oldest.size();
        }
    }
}

/// Reads a number that begins in the last `prefix` bits of the next byte.
fn integer(block: &mut &[u8], prefix: u32) -> Result<usize, HpackFault> {
    /// More is no length, size or index of anything that the router takes.
    const SHIFT_MAX: u32 = 21;
    let mut next = || {
        let (&first, rest) = block.split_first().ok_or(HpackFault)?;
        *block = rest;
        Ok::<_, HpackFault>(usize::from(first))
    };
    let mask = (1 << prefix) - 1;
    let mut number = next()? & mask;
    if number < mask {
        return Ok(number);
    }
    let mut shift = 0;
    loop {
        let byte = next()?;
        number += (byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
        shift += 7;
        if shift > SHIFT_MAX {
            return Err(HpackFault);
        }
    }
}

/// Appends the next string to `text`.
fn string(block: &mut &[u8], text: &mut Vec<u8>) -> Result<(), HpackFault> {
    let coded = block.first().ok_or(HpackFault)? & 0x80 != 0;
    let length = integer(block, 7)?;
    let (string, rest) = block.split_at_checked(length).ok_or(HpackFault)?;
    *block = rest;
    if coded {
        return huffman::decode(string, text).map_err(|_fault| HpackFault);
    }
    text.extend_from_slice(string);
    Ok(())
}

// To the client.

/// Says that the router keeps no table, which a client must hear at the beginning of a block once it has changed the
/// size that it allows.
pub(super) fn write_empty_table(out: &mut Vec<u8>) {
    out.push(0x20);
}

pub(super) fn write_status(out: &mut Vec<u8>, status: u16) {
    match status {
        200 => out.push(0x88),
        204 => out.push(0x89),
        206 => out.push(0x8a),
        304 => out.push(0x8b),
        400 => out.push(0x8c),
        404 => out.push(0x8d),
        500 => out.push(0x8e),
        _ => {
            let digit = |number: u16| b"0123456789"[usize::from(number % 10)];
            out.extend_from_slice(&[0x08, 3, digit(status / 100), digit(status / 10), digit(status)]);
        }
    }
}

/// Writes a field; the name in lower case, whatever its case was.
pub(super) fn write_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    let begin = out.len();
    out.push(0);
    write_length(out, name.len());
    let name_begin = out.len();
    out.extend_from_slice(name);
    out[name_begin..].make_ascii_lowercase();
    if let Some(index) = static_table::index_of(&out[name_begin..]) {
        out.truncate(begin);
        write_integer(out, index, 4);
    }
    write_length(out, value.len());
    out.extend_from_slice(value);
}

fn write_length(out: &mut Vec<u8>, length: usize) {
    write_integer(out, length, 7);
}

/// Writes a number whose first bits share a byte with zeros.
fn write_integer(out: &mut Vec<u8>, number: usize, prefix: u32) {
    let low = |number: usize| number.to_le_bytes()[0];
    let mask = (1 << prefix) - 1;
    if number < mask {
        return out.push(low(number));
    }
    out.push(low(mask));
    let mut rest = number - mask;
    while rest >= 0x80 {
        out.push(low(rest) | 0x80);
        rest >>= 7;
    }
    out.push(low(rest));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SIZE_MAX: usize = 10_000;

    fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<(String, String)>, HpackFault> {
        let mut list = HeaderList::default();
        decoder.decode(block, &mut list, SIZE_MAX)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(list.iter().map(|(name, value)| (text(name), text(value))).collect())
    }

    fn fields(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    /// RFC 7541, C.4: three requests on one connection, with Huffman coding.
    #[test]
    fn the_requests_of_the_rfc_are_read() {
        let mut decoder = Decoder::new();
        let first = b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff";
        let common = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")];
        assert_eq!(decode(&mut decoder, first).unwrap(), fields(&common));
        let second = decode(&mut decoder, b"\x82\x86\x84\xbe\x58\x86\xa8\xeb\x10\x64\x9c\xbf").unwrap();
        assert_eq!(second, fields(&[&common[..], &[("cache-control", "no-cache")]].concat()));
        let third = b"\x82\x87\x85\xbf\x40\x88\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f\x89\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf";
        let third = decode(&mut decoder, third).unwrap();
        let expect = [
            (":method", "GET"),
            (":scheme", "https"),
            (":path", "/index.html"),
            (":authority", "www.example.com"),
            ("custom-key", "custom-value"),
        ];
        assert_eq!(third, fields(&expect));
        assert_eq!(decoder.bytes, 164);
    }

    #[test]
    fn the_table_forgets_the_oldest_and_never_grows() {
        let mut decoder = Decoder::new();
        for n in 0..500 {
            let name = format!("x-{n:03}");
            let block = [&[0x40, 5][..], name.as_bytes(), &[1, b'v']].concat();
            decode(&mut decoder, &block).unwrap();
            assert_eq!(decode(&mut decoder, &[0xbe]).unwrap(), fields(&[(&name, "v")]));
            assert!(decoder.bytes <= TABLE_BYTES_MAX);
        }
        assert_eq!(decoder.table.len(), TABLE_BYTES_MAX / 38);
        assert_eq!(decode(&mut decoder, &[0x80 | 127, 100]), Err(HpackFault));
        // A size of 64 bytes leaves room for one; one of 0 for none; and it may grow again.
        decode(&mut decoder, &[0x20 | 31, 33]).unwrap();
        assert_eq!((decoder.table.len(), decoder.bytes), (1, 38));
        decode(&mut decoder, &[0x20, 0x20 | 31, 0xe1, 0x1f]).unwrap();
        assert_eq!((decoder.table.len(), decoder.bytes_max), (0, TABLE_BYTES_MAX));
        let large = [&[0x40, 1, b'x', 127, 0xff, 0x1f][..], &[b'v'; 127 + 0x7f + (0x1f << 7)]].concat();
        decode(&mut decoder, &large).unwrap();
        assert_eq!(decoder.bytes, 0, "larger than the table");
    }

    #[test]
    fn a_bomb_is_cut() {
        let mut decoder = Decoder::new();
        let field = [&[0x40, 1, b'x', 127, 0x80 | 1, 29][..], &[b'v'; 127 + 1 + (29 << 7)]].concat();
        decode(&mut decoder, &field).unwrap();
        let mut list = HeaderList::default();
        decoder.decode(&vec![0xbe; 16_000], &mut list, SIZE_MAX).unwrap();
        assert!(list.is_cut && list.iter().map(|(_name, value)| value.len()).sum::<usize>() <= SIZE_MAX);
    }

    #[test]
    fn what_cannot_be_is_a_fault() {
        for block in [
            &b"\x80"[..],
            b"\xbe",
            b"\x82\x20",
            b"\x3f\xe2\x1f",
            b"\x40",
            b"\x40\x01",
            b"\x40\x01x",
            b"\x40\x01x\x02y",
            b"\x7f\xff\xff\xff\xff\x0f",
            b"\x40\x81\xff\x01y",
            b"\x7e\x01y",
        ] {
            assert_eq!(decode(&mut Decoder::new(), block), Err(HpackFault), "{block:x?}");
        }
    }

    #[test]
    fn answers_are_written_shortly() {
        let mut out = Vec::new();
        write_status(&mut out, 200);
        write_status(&mut out, 503);
        write_field(&mut out, b"Content-Type", b"text/html");
        write_field(&mut out, b"X-Own", b"1");
        assert_eq!(out, b"\x88\x08\x03503\x0f\x10\x09text/html\x00\x05x-own\x011");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(pairs in proptest::collection::vec(("[a-z-]{1,140}|date|via|etag", ".{0,300}"), 0..10), status in 100_u16..600) {
            let mut out = Vec::new();
            write_empty_table(&mut out);
            write_status(&mut out, status);
            for (name, value) in &pairs {
                write_field(&mut out, name.to_ascii_uppercase().as_bytes(), value.as_bytes());
            }
            let read = decode(&mut Decoder::new(), &out).unwrap();
            let status = status.to_string();
            let mut expect = fields(&[(":status", &status)]);
            expect.extend(pairs);
            let size: usize = expect.iter().map(|(name, value)| name.len() + value.len() + FIELD_OVERHEAD).sum();
            if size <= SIZE_MAX {
                prop_assert_eq!(read, expect);
            }
        }

        #[test]
        fn coded_strings_are_read(value in proptest::collection::vec(any::<u8>(), 0..90)) {
            let mut coded = Vec::new();
            huffman::encode(&value, &mut coded);
            let mut block = vec![0x10, 1, b'x'];
            let begin = block.len();
            write_length(&mut block, coded.len());
            block[begin] |= 0x80;
            block.extend_from_slice(&coded);
            let mut list = HeaderList::default();
            Decoder::new().decode(&block, &mut list, SIZE_MAX).unwrap();
            prop_assert_eq!(list.iter().next().unwrap().1, &value[..]);
        }

        #[test]
        fn no_block_makes_it_panic_or_grow(blocks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 0..8)) {
            let mut decoder = Decoder::new();
            for block in blocks {
                if decode(&mut decoder, &block).is_err() {
                    break;
                }
                prop_assert!(decoder.bytes <= decoder.bytes_max);
                prop_assert_eq!(decoder.bytes, decoder.table.iter().map(Entry::size).sum::<usize>());
            }
        }
    }
}
