//! Reading stored content without holding up a worker thread: from the page cache at once, from the disk on the blocking pool.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use crate::oci::Span;

/// What is read at once from the page cache, in bytes. Larger pieces cost memory per connection and gain nothing.
const WARM_PIECE: u64 = 64 << 10;
/// What is read at once on the blocking pool, in bytes: enough that the hand-over does not matter and read-ahead gets going.
const COLD_PIECE: u64 = 256 << 10;

/// How far apart bytes are looked at to see whether all is in the page cache: what the kernel reads ahead and gives up is
/// seldom smaller by much.
const PROBE: usize = 256 << 10;

/// The first bytes of `span`: a piece of it, never empty. A file that ends inside the span is an error.
pub(super) async fn read(file: &Arc<File>, span: Span) -> io::Result<Bytes> {
    let mut buffer = buffer(span, WARM_PIECE);
    match read_resident(file, &mut buffer, span.start)? {
        Some(length) => filled(buffer, length),
        None => read_cold(file, span).await,
    }
}

/// Like [`read`], on the blocking pool in any case. A dropped future leaves a read behind that ends by itself.
pub(super) async fn read_cold(file: &Arc<File>, span: Span) -> io::Result<Bytes> {
    let file = file.clone();
    let read = move || {
        let mut buffer = buffer(span, COLD_PIECE);
        let length = file.read_at(&mut buffer, span.start)?;
        filled(buffer, length)
    };
    tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?
}

/// Whether a failure to read says that the content is not there any more: the file ends too soon, or the disk cannot give it
/// back. Anything else may go better next time.
pub(super) fn is_damage(error: &io::Error) -> bool {
    const DISK: [Errno; 6] = [Errno::IO, Errno::UCLEAN, Errno::BADMSG, Errno::NODATA, Errno::NXIO, Errno::STALE];
    error.kind() == io::ErrorKind::UnexpectedEof || Errno::from_io_error(error).is_some_and(|error| DISK.contains(&error))
}

/// Whether `span`, which is not empty, seems to be in the page cache: bytes of it here and there are, and its last one. Where the
/// file system cannot tell, it is not.
pub(super) fn is_resident(file: &File, span: Span) -> bool {
    let there = |offset| matches!(read_resident(file, &mut [0], offset), Ok(Some(1)));
    (span.start..span.end).step_by(PROBE).all(there) && there(span.end - 1)
}

/// Reads what the page cache has; `None` where it would have to wait, or cannot say.
fn read_resident(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
    match preadv2(file, &mut [IoSliceMut::new(buffer)], offset, ReadWriteFlags::NOWAIT) {
        Ok(length) => Ok(Some(length)),
        Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::INTR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn buffer(span: Span, piece: u64) -> BytesMut {
    BytesMut::zeroed(usize::try_from(span.len().min(piece)).expect("a piece is far below the size of memory"))
}

fn filled(mut buffer: BytesMut, length: usize) -> io::Result<Bytes> {
    buffer.truncate(length);
    if length == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(buffer.freeze()) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[tokio::test]
    async fn both_ways_read_the_same_and_an_early_end_is_an_error() {
        let mut file = tempfile::tempfile().unwrap();
        let content: Vec<u8> = (0..100_000u32).map(|i| i.to_le_bytes()[1]).collect();
        file.write_all(&content).unwrap();
        let file = Arc::new(file);
        let span = Span::new(7, 100_000);
        assert_eq!(read(&file, span).await.unwrap(), content[7..7 + (64 << 10)]);
        assert_eq!(read_cold(&file, span).await.unwrap(), content[7..]);
        let beyond = Span::new(100_000, 100_001);
        assert_eq!(read(&file, beyond).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(read_cold(&file, beyond).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert!(!is_resident(&file, beyond));
    }

    #[test]
    fn what_the_disk_cannot_give_back_is_damage_and_what_the_client_does_is_not() {
        let damage = [io::ErrorKind::UnexpectedEof.into(), Errno::IO.into(), Errno::UCLEAN.into()];
        assert!(damage.iter().all(is_damage));
        let other =
            [Errno::PIPE.into(), Errno::CONNRESET.into(), Errno::TIMEDOUT.into(), Errno::NOMEM.into(), io::Error::other("")];
        assert!(!other.iter().any(is_damage));
    }
}
