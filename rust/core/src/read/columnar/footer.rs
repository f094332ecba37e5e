//! Checks the footer of a Parquet file before its reader parses it, because that reader recurses
//! without a limit and allocates lists of any declared length.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::thrift::{Broken, Read, Thrift, kind};
use crate::read::MIB;

/// Maximum footer size. A dataset of ten million rows in groups of a thousand has a footer of some
/// 15 MB.
const FOOTER_BYTES_MAX: u64 = 64 << 20;
/// Maximum depth of a schema, equal to the depth limit of JSON rows.
const SCHEMA_DEPTH_MAX: usize = 64;
/// Maximum number of groups and columns in a schema.
const SCHEMA_PARTS_MAX: usize = 10_000;
/// Maximum total size of all full column names. The reader stores the names of all enclosing groups
/// for each column.
const NAME_BYTES_MAX: usize = 16 << 20;
/// Maximum total size of all fixed-length values in one row. A row with more of them would be too
/// long.
const FIXED_BYTES_MAX: i64 = 1 << 20;
/// Maximum number of columns in all row groups together. Each of them takes half a kilobyte of
/// metadata.
const COLUMN_CHUNKS_MAX: usize = 500_000;
/// The last bytes of a file, after the length of its footer.
const MAGIC: &[u8; 4] = b"PAR1";

/// Reads the footer of a file, or returns the reason why it is rejected.
pub(super) fn read(file: &File, file_bytes: u64) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| error.to_string();
    let mut tail = [0; 8];
    let tail_start =
        file_bytes.checked_sub(tail.len() as u64).ok_or("it is too short for a Parquet file")?;
    file.read_exact_at(&mut tail, tail_start).map_err(failed)?;
    let [a, b, c, d, magic @ ..] = tail;
    if &magic != MAGIC {
        return Err("it does not end as a Parquet file does; is it complete?".to_owned());
    }
    let length = u64::from(u32::from_le_bytes([a, b, c, d]));
    let start = tail_start.checked_sub(length).ok_or("its footer is longer than the file")?;
    if length > FOOTER_BYTES_MAX {
        return Err(format!(
            "its footer has {length} bytes; at most {} MiB are read",
            FOOTER_BYTES_MAX / MIB
        ));
    }
    let mut footer = vec![0; length as usize];
    file.read_exact_at(&mut footer, start).map_err(failed)?;
    let mut look = Look::default();
    match look.through(&mut Thrift::new(&footer)) {
        Ok(()) => Ok(footer),
        Err(Broken::Short | Broken::Malformed) => {
            Err(look.refusal.unwrap_or_else(|| "its footer is malformed".to_owned()))
        }
    }
}

/// The state of a footer check.
#[derive(Default)]
struct Look {
    /// The reason for rejecting the footer, if it is well formed but exceeds a limit.
    refusal: Option<String>,
    column_chunks: usize,
    name_bytes: usize,
    fixed_bytes: i64,
}

/// A group of a schema that is followed by its members.
struct Group {
    members_left: usize,
    /// Size of its full name.
    name_bytes: usize,
}

impl Look {
    fn refuse<T>(&mut self, why: String) -> Read<T> {
        self.refusal = Some(why);
        Err(Broken::Malformed)
    }

    fn through(&mut self, thrift: &mut Thrift<'_>) -> Read<()> {
        thrift.fields(|thrift, id, of| match id {
            2 => self.schema(thrift, of),
            4 => self.row_groups(thrift, of),
            _ => thrift.skip(of),
        })
    }

    fn schema(&mut self, thrift: &mut Thrift<'_>, of: u8) -> Read<()> {
        let (count, of) = thrift.list(of)?;
        if count > SCHEMA_PARTS_MAX {
            return self.refuse(format!(
                "its schema has {count} columns and groups; at most {SCHEMA_PARTS_MAX} are read"
            ));
        }
        let mut open: Vec<Group> = Vec::new();
        for part in 0..count {
            if of != kind::STRUCT {
                return Err(Broken::Malformed);
            }
            self.part(thrift, &mut open, count - part - 1)?;
        }
        Ok(())
    }

    /// Checks one group or column. `left` more of them follow.
    fn part(&mut self, thrift: &mut Thrift<'_>, open: &mut Vec<Group>, left: usize) -> Read<()> {
        let (mut members, mut name_bytes, mut fixed_bytes) = (0, 0, 0);
        thrift.fields(|thrift, id, of| match id {
            2 => thrift.int32(of).map(|length| fixed_bytes = i64::from(length.max(0))),
            4 => thrift.binary(of).map(|name| name_bytes = name.len() + 1),
            5 => thrift.int32(of).map(|count| members = count),
            _ => thrift.skip(of),
        })?;
        while open.pop_if(|group| group.members_left == 0).is_some() {}
        if let Some(group) = open.last_mut() {
            group.members_left -= 1;
            name_bytes += group.name_bytes;
        }
        self.name_bytes += name_bytes;
        self.fixed_bytes += fixed_bytes;
        let members_left = usize::try_from(members)
            .ok()
            .filter(|members| *members <= left)
            .ok_or(Broken::Malformed)?;
        if members_left > 0 {
            open.push(Group { members_left, name_bytes });
        }
        if open.len() > SCHEMA_DEPTH_MAX {
            return self.refuse(format!("its schema is more than {SCHEMA_DEPTH_MAX} levels deep"));
        }
        if self.name_bytes > NAME_BYTES_MAX || self.fixed_bytes > FIXED_BYTES_MAX {
            return self.refuse(
                "its columns have longer names or values than a row has room for".to_owned(),
            );
        }
        Ok(())
    }

    fn row_groups(&mut self, thrift: &mut Thrift<'_>, of: u8) -> Read<()> {
        let (count, of) = thrift.list(of)?;
        for _ in 0..count {
            if of != kind::STRUCT {
                return Err(Broken::Malformed);
            }
            thrift.fields(
                |thrift, id, of| if id == 1 { self.columns(thrift, of) } else { thrift.skip(of) },
            )?;
        }
        Ok(())
    }

    fn columns(&mut self, thrift: &mut Thrift<'_>, of: u8) -> Read<()> {
        let (count, of) = thrift.list(of)?;
        self.column_chunks += count;
        if self.column_chunks > COLUMN_CHUNKS_MAX {
            return self.refuse(format!(
                "its row groups have more than {COLUMN_CHUNKS_MAX} columns together; \
                write larger row groups"
            ));
        }
        (0..count).try_for_each(|_| thrift.skip(of))
    }
}
