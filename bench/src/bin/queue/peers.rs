//! Libraries of others that a program would use as a queue.

use std::ops::Range;
use std::path::{Path, PathBuf};

use grey_bench::Outcome;
use redb::{ReadableTable, TableDefinition};
use rusqlite::Connection;

use crate::contestant::{Contestant, Payloads, look};

/// yaque: it never syncs.
pub(crate) struct Yaque {
    dir: PathBuf,
    ends: Option<(yaque::Sender, yaque::Receiver)>,
}

impl Yaque {
    pub(crate) fn new(dir: &Path) -> Outcome<Self> {
        let mut queue = Self { dir: dir.join("queue"), ends: None };
        if queue.dir.exists() {
            // After a killed process its locks are still there.
            yaque::recovery::recover(&queue.dir)?;
        }
        queue.reopen()?;
        Ok(queue)
    }
}

impl Contestant for Yaque {
    fn append(&mut self, payloads: &Payloads, records: Range<usize>) -> Outcome<()> {
        let (sender, _) = self.ends.as_mut().ok_or("closed")?;
        sender.try_send_batch(records.map(|record| payloads.get(record))).map_err(|error| error.unwrap_io())?;
        Ok(())
    }

    fn reopen(&mut self) -> Outcome<()> {
        self.ends = None;
        self.ends = Some(yaque::channel(&self.dir)?);
        Ok(())
    }

    fn drain(&mut self, count: usize, sum: &mut u64) -> Outcome<usize> {
        let (_, receiver) = self.ends.as_mut().ok_or("closed")?;
        let batch = match receiver.try_recv_batch_up_to(count) {
            Ok(batch) => batch,
            Err(yaque::TryRecvError::QueueEmpty) => return Ok(0),
            Err(yaque::TryRecvError::Io(error)) => return Err(error.into()),
        };
        let drained = batch.len();
        *sum = batch.iter().fold(*sum, |sum, payload| look(sum, payload));
        batch.commit()?;
        Ok(drained)
    }
}

const TABLE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("queue");

/// redb: each transaction is durable.
pub(crate) struct Redb {
    path: PathBuf,
    db: Option<redb::Database>,
}

impl Redb {
    pub(crate) fn new(dir: &Path) -> Outcome<Self> {
        let mut queue = Self { path: dir.join("queue.redb"), db: None };
        queue.reopen()?;
        Ok(queue)
    }
}

impl Contestant for Redb {
    fn append(&mut self, payloads: &Payloads, records: Range<usize>) -> Outcome<()> {
        let write = self.db.as_ref().ok_or("closed")?.begin_write()?;
        {
            let mut table = write.open_table(TABLE)?;
            for record in records {
                table.insert(record as u64, payloads.get(record))?;
            }
        }
        Ok(write.commit()?)
    }

    fn reopen(&mut self) -> Outcome<()> {
        self.db = None;
        self.db = Some(redb::Database::create(&self.path)?);
        Ok(())
    }

    fn drain(&mut self, count: usize, sum: &mut u64) -> Outcome<usize> {
        let write = self.db.as_ref().ok_or("closed")?.begin_write()?;
        let mut drained = 0;
        {
            let mut table = write.open_table(TABLE)?;
            let mut last = None;
            for entry in table.range::<u64>(..)?.take(count) {
                let (key, payload) = entry?;
                *sum = look(*sum, payload.value());
                last = Some(key.value());
                drained += 1;
            }
            if let Some(last) = last {
                table.retain_in(..=last, |_, _| false)?;
            }
        }
        write.commit()?;
        Ok(drained)
    }
}

/// SQLite with a write-ahead log that is synced at each commit.
pub(crate) struct Sqlite {
    path: PathBuf,
    connection: Option<Connection>,
}

impl Sqlite {
    pub(crate) fn new(dir: &Path) -> Outcome<Self> {
        let mut queue = Self { path: dir.join("queue.sqlite"), connection: None };
        queue.reopen()?;
        Ok(queue)
    }
}

impl Contestant for Sqlite {
    fn append(&mut self, payloads: &Payloads, records: Range<usize>) -> Outcome<()> {
        let transaction = self.connection.as_mut().ok_or("closed")?.transaction()?;
        {
            let mut insert = transaction.prepare("INSERT INTO queue (id, payload) VALUES (?1, ?2)")?;
            for record in records {
                insert.execute((record as i64, payloads.get(record)))?;
            }
        }
        Ok(transaction.commit()?)
    }

    fn reopen(&mut self) -> Outcome<()> {
        self.connection = None;
        let connection = Connection::open(&self.path)?;
        connection.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
             CREATE TABLE IF NOT EXISTS queue (id INTEGER PRIMARY KEY, payload BLOB NOT NULL);",
        )?;
        self.connection = Some(connection);
        Ok(())
    }

    fn drain(&mut self, count: usize, sum: &mut u64) -> Outcome<usize> {
        let transaction = self.connection.as_mut().ok_or("closed")?.transaction()?;
        let mut drained = 0;
        {
            let mut select = transaction.prepare("SELECT id, payload FROM queue ORDER BY id LIMIT ?1")?;
            let mut rows = select.query((count as i64,))?;
            let mut last: i64 = -1;
            while let Some(row) = rows.next()? {
                last = row.get(0)?;
                *sum = look(*sum, row.get_ref(1)?.as_blob()?);
                drained += 1;
            }
            transaction.prepare("DELETE FROM queue WHERE id <= ?1")?.execute((last,))?;
        }
        transaction.commit()?;
        Ok(drained)
    }
}
