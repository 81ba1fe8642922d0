//! A TCP relay between two tiers that counts what passes and can be cut.
//!
//! Sites share the hub's wires. Which site a connection belongs to is read off
//! its first frame, in which the sender names itself; the frame is passed on
//! as it came.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A sender names itself within its first bytes, or it is none of ours.
const FIRST_FRAME_BYTES_MAX: usize = 64 * 1024;
const BUFFER_BYTES: usize = 64 * 1024;

/// One sender's way up, over whichever wire it takes.
#[derive(Debug)]
pub(crate) struct Link {
    name: String,
    up_bytes: AtomicU64,
    down_bytes: AtomicU64,
    cut: watch::Sender<bool>,
}

/// Bytes that passed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    /// From the lower tier to the upper.
    pub(crate) up_bytes: u64,
    /// From the upper tier to the lower.
    pub(crate) down_bytes: u64,
}

impl Link {
    fn new(name: &str) -> Arc<Self> {
        let (cut, _) = watch::channel(false);
        Arc::new(Self { name: name.to_owned(), up_bytes: AtomicU64::new(0), down_bytes: AtomicU64::new(0), cut })
    }

    /// Cuts the link: its connections end, and new ones are turned away.
    pub(crate) fn cut(&self) {
        self.cut.send_replace(true);
    }

    /// Lets connections through again.
    pub(crate) fn heal(&self) {
        self.cut.send_replace(false);
    }

    /// What passed so far.
    pub(crate) fn traffic(&self) -> Traffic {
        Traffic { up_bytes: self.up_bytes.load(Ordering::Relaxed), down_bytes: self.down_bytes.load(Ordering::Relaxed) }
    }
}

/// The links that share wires.
#[derive(Debug)]
pub(crate) struct Links {
    links: Vec<Arc<Link>>,
    /// Connections need not say whose they are.
    single: bool,
}

impl Links {
    /// One link that every connection belongs to.
    pub(crate) fn single(name: &str) -> Self {
        Self { links: vec![Link::new(name)], single: true }
    }

    /// A link for each name that a first frame may hold.
    pub(crate) fn named<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        Self { links: names.map(Link::new).collect(), single: false }
    }

    /// The link of a name.
    pub(crate) fn get(&self, name: &str) -> Option<Arc<Link>> {
        self.links.iter().find(|link| link.name == name).cloned()
    }

    fn of(&self, first_bytes: &[u8]) -> Option<&Arc<Link>> {
        if self.single {
            return self.links.first();
        }
        let holds = |name: &str| first_bytes.windows(name.len()).any(|window| window == name.as_bytes());
        self.links.iter().find(|link| holds(&link.name))
    }
}

/// A listening relay. Ends when dropped.
#[derive(Debug)]
pub(crate) struct Wire {
    task: JoinHandle<()>,
}

impl Wire {
    /// Listens at one address and relays to another.
    pub(crate) async fn open(listen: SocketAddr, to: SocketAddr, links: Arc<Links>) -> Result<Self> {
        let listener =
            TcpListener::bind(listen).await.with_context(|| format!("a wire could not listen at {listen}"))?;
        let task = tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    // A connection that breaks is the business of its two ends.
                    Ok((from, _)) => drop(tokio::spawn(relay(from, to, links.clone()))),
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        });
        Ok(Self { task })
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn relay(mut from: TcpStream, to: SocketAddr, links: Arc<Links>) -> Result<()> {
    let mut first = Vec::new();
    let link = loop {
        if let Some(link) = links.of(&first) {
            break link.clone();
        }
        if first.len() > FIRST_FRAME_BYTES_MAX || from.read_buf(&mut first).await? == 0 {
            return Ok(());
        }
    };
    let mut cut = link.cut.subscribe();
    if *cut.borrow_and_update() {
        return Ok(());
    }
    let mut upper = TcpStream::connect(to).await?;
    upper.set_nodelay(true)?;
    from.set_nodelay(true)?;
    upper.write_all(&first).await?;
    link.up_bytes.fetch_add(first.len() as u64, Ordering::Relaxed);
    let (from_read, from_write) = from.into_split();
    let (upper_read, upper_write) = upper.into_split();
    tokio::select! {
        done = pump(from_read, upper_write, &link.up_bytes) => done,
        done = pump(upper_read, from_write, &link.down_bytes) => done,
        _ = cut.wait_for(|cut| *cut) => Ok(()),
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, passed: &AtomicU64) -> Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let n = from.read(&mut buffer).await?;
        if n == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..n]).await?;
        passed.fetch_add(n as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::federation::ports;

    /// A server that answers every byte with itself.
    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    tokio::io::copy(&mut read, &mut write).await
                });
            }
        });
        address
    }

    async fn says(stream: &mut TcpStream, words: &[u8]) -> std::io::Result<bool> {
        stream.write_all(words).await?;
        let mut answer = vec![0; words.len()];
        Ok(stream.read_exact(&mut answer).await.is_ok() && answer == words)
    }

    #[tokio::test]
    async fn a_cut_concerns_only_the_site_that_named_itself() {
        let listen = ports::free(1).unwrap()[0];
        let links = Arc::new(Links::named(["north", "south"].into_iter()));
        let _wire = Wire::open(listen, echo().await, links.clone()).await.unwrap();
        let mut north = TcpStream::connect(listen).await.unwrap();
        let mut south = TcpStream::connect(listen).await.unwrap();
        assert!(says(&mut north, b"hello from north").await.unwrap());
        assert!(says(&mut south, b"hello from south").await.unwrap());

        let link = links.get("north").unwrap();
        link.cut();
        assert_eq!(north.read(&mut [0; 1]).await.unwrap_or(0), 0, "the connection ends");
        let mut again = TcpStream::connect(listen).await.unwrap();
        assert!(!says(&mut again, b"north again").await.unwrap_or(false), "a new one is turned away");
        assert!(says(&mut south, b"still here").await.unwrap());

        link.heal();
        let mut healed = TcpStream::connect(listen).await.unwrap();
        assert!(says(&mut healed, b"north once more").await.unwrap());
        assert_eq!(link.traffic(), Traffic { up_bytes: 31, down_bytes: 31 });
    }
}
