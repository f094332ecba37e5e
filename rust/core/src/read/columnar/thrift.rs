//! Reads the part of Thrift's compact protocol that Parquet uses. It is strict, does not copy, and
//! trusts no length.

/// Maximum nesting of structs, lists and maps. Parquet nests them six deep.
const DEPTH_MAX: usize = 24;

/// The protocol's numbers for the types of values.
pub(super) mod kind {
    pub(in super::super) const TRUE: u8 = 1;
    pub(in super::super) const FALSE: u8 = 2;
    pub(in super::super) const I32: u8 = 5;
    pub(in super::super) const BINARY: u8 = 8;
    pub(in super::super) const LIST: u8 = 9;
    pub(in super::super) const STRUCT: u8 = 12;
}

/// Why bytes could not be parsed as Thrift.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// They end too early, so reading more of them may help.
    Short,
    /// They violate the protocol.
    Malformed,
}

pub(super) type Read<T> = Result<T, Broken>;

/// Bytes, and the current position in them.
pub(super) struct Thrift<'bytes> {
    bytes: &'bytes [u8],
    pub(super) at: usize,
}

impl<'bytes> Thrift<'bytes> {
    pub(super) fn new(bytes: &'bytes [u8]) -> Thrift<'bytes> {
        Thrift { bytes, at: 0 }
    }

    fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    fn byte(&mut self) -> Read<u8> {
        let byte = *self.bytes.get(self.at).ok_or(Broken::Short)?;
        self.at += 1;
        Ok(byte)
    }

    /// Returns the next `count` bytes.
    pub(super) fn take(&mut self, count: u64) -> Read<&'bytes [u8]> {
        let count = usize::try_from(count)
            .ok()
            .filter(|count| *count <= self.left())
            .ok_or(Broken::Short)?;
        let taken = &self.bytes[self.at..self.at + count];
        self.at += count;
        Ok(taken)
    }

    /// The bytes that were not read yet.
    pub(super) fn rest(&self) -> &'bytes [u8] {
        &self.bytes[self.at..]
    }

    /// Skips `count` bytes, or all that are left.
    pub(super) fn step_over(&mut self, count: usize) {
        self.at += count.min(self.left());
    }

    /// Reads an unsigned number.
    pub(super) fn unsigned(&mut self) -> Read<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Broken::Malformed)
    }

    /// Reads a signed number.
    pub(super) fn signed(&mut self) -> Read<i64> {
        let number = self.unsigned()?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    /// Reads a 32-bit number. Fails if the field has another type.
    pub(super) fn int32(&mut self, of: u8) -> Read<i32> {
        if of != kind::I32 {
            return Err(Broken::Malformed);
        }
        i32::try_from(self.signed()?).map_err(|_| Broken::Malformed)
    }

    /// Reads text or bytes.
    pub(super) fn binary(&mut self, of: u8) -> Read<&'bytes [u8]> {
        if of != kind::BINARY {
            return Err(Broken::Malformed);
        }
        let length = self.unsigned()?;
        self.take(length)
    }

    /// Reads the fields of a struct, with `visit` for the value of each. Their IDs must ascend, so
    /// no field is read twice.
    pub(super) fn fields(
        &mut self,
        mut visit: impl FnMut(&mut Self, i16, u8) -> Read<()>,
    ) -> Read<()> {
        let mut last = 0_i16;
        loop {
            let head = self.byte()?;
            if head == 0 {
                return Ok(());
            }
            let step = i16::from(head >> 4);
            let id =
                if step == 0 { i16::try_from(self.signed()?).ok() } else { last.checked_add(step) };
            last = id.filter(|id| *id > last).ok_or(Broken::Malformed)?;
            visit(self, last, head & 0x0F)?;
        }
    }

    /// Reads the head of a list: the number and type of its values. Each value takes at least one
    /// byte.
    pub(super) fn list(&mut self, of: u8) -> Read<(usize, u8)> {
        if of != kind::LIST {
            return Err(Broken::Malformed);
        }
        let head = self.byte()?;
        let count = if head >> 4 == 15 { self.unsigned()? } else { u64::from(head >> 4) };
        let count = usize::try_from(count)
            .ok()
            .filter(|count| *count <= self.left())
            .ok_or(Broken::Short)?;
        Ok((count, head & 0x0F))
    }

    /// Skips the value of a field.
    pub(super) fn skip(&mut self, of: u8) -> Read<()> {
        match of {
            // The type of the field already contains the value.
            kind::TRUE | kind::FALSE => Ok(()),
            of => self.skip_value(of, DEPTH_MAX),
        }
    }

    fn skip_value(&mut self, of: u8, depth: usize) -> Read<()> {
        let depth = depth.checked_sub(1).ok_or(Broken::Malformed)?;
        match of {
            kind::TRUE | kind::FALSE | 3 => self.take(1).map(drop),
            4..=6 => self.unsigned().map(drop),
            7 => self.take(8).map(drop),
            kind::BINARY => self.binary(of).map(drop),
            kind::LIST | 10 => {
                let (count, of) = self.list(kind::LIST)?;
                (0..count).try_for_each(|_| self.skip_value(of, depth))
            }
            11 => self.skip_map(depth),
            kind::STRUCT => self.fields(|thrift, _, of| match of {
                kind::TRUE | kind::FALSE => Ok(()),
                of => thrift.skip_value(of, depth),
            }),
            _ => Err(Broken::Malformed),
        }
    }

    fn skip_map(&mut self, depth: usize) -> Read<()> {
        let count = self.unsigned()?;
        if count == 0 {
            return Ok(());
        }
        if count > self.left() as u64 {
            return Err(Broken::Short);
        }
        let kinds = self.byte()?;
        (0..count).try_for_each(|_| {
            self.skip_value(kinds >> 4, depth).and_then(|()| self.skip_value(kinds & 0x0F, depth))
        })
    }
}
