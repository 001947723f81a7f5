//! Rows in `COPY`'s binary form, in pieces: while the server writes one, the next is made.
//!
//! ```text
//! header │ fields: i16, then each with its length │ … │ -1: the end
//! ```

use bytes::{BufMut, Bytes, BytesMut};

/// Signature, no flags, no extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const END: i16 = -1;

/// Bytes of a piece. Smaller ones cost a wake-up each, larger ones let the server wait for the first.
const PIECE: usize = 64 * 1024;

/// The pieces of all `rows`, each of `fields` fields that `put` writes.
pub fn pieces<T>(
    mut rows: impl Iterator<Item = T>,
    fields: usize,
    put: impl Fn(T, &mut BytesMut),
) -> impl Iterator<Item = Bytes> {
    let mut buffer = BytesMut::new();
    buffer.put_slice(HEADER);
    let mut ended = false;
    std::iter::from_fn(move || {
        if ended {
            return None;
        }
        // Room for the row that goes beyond it, mostly.
        buffer.reserve(PIECE + PIECE / 8);
        while buffer.len() < PIECE {
            let Some(row) = rows.next() else {
                buffer.put_i16(END);
                ended = true;
                break;
            };
            buffer.put_i16(fields as i16);
            put(row, &mut buffer);
        }
        Some(buffer.split().freeze())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pieces_make_one_whole() {
        for rows in [0, 1, 50_000] {
            let pieces: Vec<Bytes> = pieces(0..rows, 1, |row, out| {
                out.put_i32(4);
                out.put_i32(row);
            })
            .collect();
            assert_eq!(pieces.len(), 1 + rows as usize * 10 / PIECE);
            let whole = pieces.concat();
            assert_eq!(whole.len(), HEADER.len() + rows as usize * 10 + 2);
            assert!(whole.starts_with(HEADER) && whole.ends_with(&[0xff, 0xff]));
        }
    }
}
