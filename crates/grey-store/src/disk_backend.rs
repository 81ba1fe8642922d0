//! A file of a [`grey_disk::Disk`] as `redb` wants it, so that the store runs
//! on a simulated disk too.

use std::io;

use grey_disk::File;
use redb::StorageBackend;

/// One database file. Knows no locks: whoever owns the disk owns its files.
#[derive(Debug)]
pub(crate) struct DiskBackend(pub(crate) Box<dyn File>);

impl StorageBackend for DiskBackend {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut filled = 0;
        while filled < out.len() {
            match self.0.read_at(&mut out[filled..], offset + filled as u64)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => filled += read,
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_at(data, offset)
    }
}
