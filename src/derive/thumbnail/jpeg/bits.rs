//! Coded data as bits, and the Huffman codes in them.

use super::JpegError;

/// Codes up to this length are found by one look-up; longer ones are rare.
const LOOK: u32 = 10;
/// Bits that the table for skipping looks at: often two or three codes at once.
const SKIP: u32 = 12;

/// Reads bits from the coded data of one scan.
pub(super) struct Bits<'a> {
    data: &'a [u8],
    at: usize,
    /// The next bits, the first one highest; zeros below the last one that is filled in.
    buffer: u64,
    filled: u32,
    /// Bits that were made up because the data (or its restart interval) had ended.
    missing: u32,
}

impl<'a> Bits<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self {
            data,
            at: 0,
            buffer: 0,
            filled: 0,
            missing: 0,
        }
    }

    /// At least 48 bits can be peeked at afterwards; past the end they are zeros.
    #[inline]
    pub(super) fn refill(&mut self) {
        if self.filled >= 48 {
            return;
        }
        if let Some(word) = self
            .data
            .get(self.at..)
            .and_then(|rest| rest.first_chunk::<8>())
        {
            let word = u64::from_be_bytes(*word);
            // Whether one of the eight bytes is 0xff, and so a marker or a stuffed byte.
            let special =
                (!word).wrapping_sub(0x0101_0101_0101_0101) & word & 0x8080_8080_8080_8080;
            if special == 0 {
                let bytes = (63 - self.filled) / 8;
                // What is shifted out below the last whole byte is read again next time.
                self.buffer |= word >> self.filled & !(u64::MAX >> (self.filled + bytes * 8));
                self.at += bytes as usize;
                self.filled += bytes * 8;
                return;
            }
        }
        self.refill_slowly();
    }

    #[cold]
    fn refill_slowly(&mut self) {
        while self.filled <= 56 {
            let byte = match self.data.get(self.at..) {
                Some([0xff, 0, ..]) => {
                    self.at += 2;
                    0xff
                }
                Some([byte, ..]) if *byte != 0xff => {
                    self.at += 1;
                    *byte
                }
                // The end or a restart marker: both are for the caller.
                _ => {
                    self.missing += 8;
                    0
                }
            };
            self.buffer |= u64::from(byte) << (56 - self.filled);
            self.filled += 8;
        }
    }

    /// Whether more bits were used than there were.
    #[inline]
    pub(super) fn exhausted(&self) -> bool {
        self.missing > self.filled
    }

    /// The next 1 to 32 bits, without using them up.
    #[inline]
    fn peek(&self, count: u32) -> u32 {
        (self.buffer >> (64 - count)) as u32
    }

    #[inline]
    fn consume(&mut self, count: u32) {
        self.buffer <<= count;
        self.filled -= count;
    }

    /// The next 0 to 16 bits.
    #[inline]
    pub(super) fn take(&mut self, count: u32) -> u32 {
        if count == 0 {
            return 0;
        }
        self.refill();
        let bits = self.peek(count);
        self.consume(count);
        bits
    }

    /// A number of `size` bits, 0 to 15, as JPEG writes signed numbers (T.81, F.2.2.1).
    #[inline]
    pub(super) fn signed(&mut self, size: u32) -> i32 {
        if size == 0 {
            return 0;
        }
        let bits = self.peek(size) as i32;
        self.consume(size);
        // A leading 0 means negative.
        if bits >> (size - 1) == 0 {
            bits - (1 << size) + 1
        } else {
            bits
        }
    }

    /// The next symbol. Afterwards 32 bits can still be peeked at.
    #[inline]
    pub(super) fn symbol(&mut self, table: &Huffman) -> Result<u8, JpegError> {
        self.refill();
        let entry = table.fast[self.peek(LOOK) as usize];
        if entry != 0 {
            self.consume(u32::from(entry >> 8));
            return Ok(entry as u8);
        }
        let (symbol, length) = table
            .slow(self.peek(16))
            .ok_or(JpegError::Damaged("a code means nothing"))?;
        self.consume(length);
        Ok(symbol)
    }

    /// Passes over the AC coefficients of a block from zigzag position `k` to its end.
    #[inline]
    pub(super) fn skip_block(&mut self, table: &Huffman, mut k: usize) -> Result<(), JpegError> {
        while k < 64 {
            self.refill();
            let entry = table.skip[self.peek(SKIP) as usize];
            let advance = entry.advance();
            // Codes beyond a full block belong to the next one: those are taken one by one.
            if entry.usable() && (k + advance < 64 || entry.single()) {
                self.consume(entry.bits());
                if entry.ends_block() {
                    return Ok(());
                }
                k += advance;
                continue;
            }
            let symbol = self.symbol(table)?;
            let size = u32::from(symbol & 15);
            if size > 0 {
                self.consume(size);
            } else if symbol != 0xf0 {
                return Ok(());
            }
            k += usize::from(symbol >> 4) + 1;
        }
        if k > 64 {
            return Err(JpegError::Damaged("a block is too long"));
        }
        Ok(())
    }

    /// Steps over the restart marker that has to stand here.
    pub(super) fn restart(&mut self) -> Result<(), JpegError> {
        // All data before the marker has been read into the buffer, unless it is damaged.
        let mut at = self.at;
        while let Some([0xff, 0xff, ..]) = self.data.get(at..) {
            at += 1;
        }
        match self.data.get(at..) {
            Some([0xff, 0xd0..=0xd7, ..]) => {
                *self = Self {
                    at: at + 2,
                    ..Self::new(self.data)
                };
                Ok(())
            }
            Some([]) | None => Err(JpegError::Truncated),
            Some(_) => Err(JpegError::Damaged("a restart marker is missing")),
        }
    }
}

/// Several codes with their extra bits, as one step: bits 0–3 length, 4–10 coefficients passed,
/// 11 the block ends, 12 it is one code only, 13 usable.
#[derive(Clone, Copy, Default)]
struct Skip(u16);

impl Skip {
    fn new(bits: u32, advance: usize, ends: bool, codes: u32) -> Self {
        Self(
            bits as u16
                | (advance as u16) << 4
                | u16::from(ends) << 11
                | u16::from(codes == 1) << 12
                | u16::from(codes > 0) << 13,
        )
    }

    fn bits(self) -> u32 {
        u32::from(self.0 & 15)
    }

    fn advance(self) -> usize {
        usize::from(self.0 >> 4 & 127)
    }

    fn ends_block(self) -> bool {
        self.0 & 1 << 11 != 0
    }

    fn single(self) -> bool {
        self.0 & 1 << 12 != 0
    }

    fn usable(self) -> bool {
        self.0 & 1 << 13 != 0
    }
}

/// A Huffman table (T.81, annex C), prepared for look-ups.
pub(super) struct Huffman {
    /// By the next `LOOK` bits: length << 8 | symbol, or 0 for a longer or invalid code.
    fast: Box<[u16; 1 << LOOK]>,
    /// By the next `SKIP` bits; filled in by `prepare_skipping`.
    skip: Box<[Skip; 1 << SKIP]>,
    prepared: bool,
    /// For each length: one past the last code, at 16 bits, and what to add for its symbol's index.
    limits: [u32; 17],
    offsets: [i32; 17],
    symbols: Vec<u8>,
}

impl Huffman {
    /// `None` when the counts describe no code.
    pub(super) fn new(counts: &[u8; 16], symbols: &[u8]) -> Option<Self> {
        let mut table = Self {
            fast: Box::new([0; 1 << LOOK]),
            skip: Box::new([Skip::default(); 1 << SKIP]),
            prepared: false,
            limits: [0; 17],
            offsets: [0; 17],
            symbols: symbols.to_vec(),
        };
        let mut code = 0u32;
        let mut index = 0usize;
        for length in 1..=16u32 {
            let count = u32::from(counts[length as usize - 1]);
            table.offsets[length as usize] = index as i32 - code as i32;
            for _ in 0..count {
                if length <= LOOK {
                    let first = (code << (LOOK - length)) as usize;
                    let entry = (length as u16) << 8 | u16::from(*symbols.get(index)?);
                    table
                        .fast
                        .get_mut(first..first + (1 << (LOOK - length)))?
                        .fill(entry);
                }
                code += 1;
                index += 1;
            }
            if code > 1 << length {
                return None;
            }
            table.limits[length as usize] = code << (16 - length);
            code <<= 1;
        }
        Some(table)
    }

    /// Symbol and length of the code that `bits`, the next 16, begin with.
    fn slow(&self, bits: u32) -> Option<(u8, u32)> {
        let length = (1..=16).find(|length| bits < self.limits[*length as usize])?;
        let code = (bits >> (16 - length)) as i32;
        let index = usize::try_from(code + self.offsets[length as usize]).ok()?;
        Some((*self.symbols.get(index)?, length))
    }

    /// Fills in the table for [`Bits::skip_block`], which only sequential scans use.
    pub(super) fn prepare_skipping(&mut self) {
        if self.prepared {
            return;
        }
        self.prepared = true;
        for prefix in 0..1u32 << SKIP {
            self.skip[prefix as usize] = self.skip_entry(prefix);
        }
    }

    fn skip_entry(&self, prefix: u32) -> Skip {
        let (mut used, mut advance, mut codes) = (0, 0, 0);
        while used < SKIP {
            let bits = (prefix << (16 - SKIP) << used) & 0xffff;
            let Some((symbol, length)) = self.slow(bits) else {
                break;
            };
            let size = u32::from(symbol & 15);
            if used + length + size > SKIP {
                break;
            }
            let passed = usize::from(symbol >> 4) + 1;
            if size == 0 && symbol != 0xf0 {
                return Skip::new(used + length, advance, true, codes + 1);
            }
            if advance + passed > 64 {
                break;
            }
            used += length + size;
            advance += passed;
            codes += 1;
        }
        Skip::new(used, advance, false, codes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Codes 0, 10, 110: end of block, one coefficient of one bit, sixteen zeros.
    fn table() -> Huffman {
        let mut counts = [0; 16];
        counts[..3].copy_from_slice(&[1, 1, 1]);
        let mut table = Huffman::new(&counts, &[0x00, 0x01, 0xf0]).unwrap();
        table.prepare_skipping();
        table
    }

    #[test]
    fn stuffed_bytes_are_one_byte_and_the_end_is_noticed() {
        let mut bits = Bits::new(&[0xff, 0x00, 0x12, 0x34]);
        assert_eq!(bits.take(12), 0xff1);
        assert_eq!(bits.take(12), 0x234);
        assert!(!bits.exhausted());
        assert_eq!(bits.take(1), 0);
        assert!(bits.exhausted());
    }

    #[test]
    fn long_runs_of_plain_bytes_come_out_in_order() {
        let data: Vec<u8> = (0..200).collect();
        let mut bits = Bits::new(&data);
        for byte in &data {
            assert_eq!(bits.take(3), u32::from(byte >> 5));
            assert_eq!(bits.take(5), u32::from(byte & 31));
        }
        assert!(!bits.exhausted());
    }

    #[test]
    fn skipping_stops_exactly_at_the_end_of_a_block() {
        // 63 coefficients "10x" fill a block without an end mark; then "0" and a lone "11".
        let mut text = "101".repeat(63) + "0" + "11";
        while !text.len().is_multiple_of(8) {
            text.push('1');
        }
        let data: Vec<u8> = text
            .as_bytes()
            .chunks(8)
            .map(|bits| bits.iter().fold(0, |byte, bit| byte << 1 | (bit - b'0')))
            .collect();
        let mut bits = Bits::new(&data);
        bits.skip_block(&table(), 1).unwrap();
        bits.skip_block(&table(), 1).unwrap();
        assert_eq!(bits.take(2), 3);
    }

    #[test]
    fn a_table_with_too_many_codes_is_none() {
        let mut counts = [0; 16];
        counts[0] = 3;
        assert!(Huffman::new(&counts, &[1, 2, 3]).is_none());
    }
}
