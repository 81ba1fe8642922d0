//! The buffer for tasks: a thread owns it, and what arrives together is committed together.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use grey_model::{Lane, Seq};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::batch::{Batch, Budget, Place};
use super::error::BufferError;
use super::store::{Buffer, Pending};

/// Appends that may wait for the thread.
const APPENDS_MAX: usize = 4_096;
/// Bytes that they may hold; one larger payload waits until it is alone.
const APPEND_BYTES_MAX: usize = 16 << 20;
/// Other requests that may wait for the thread.
const REQUESTS_MAX: usize = 256;

type Reply<T> = oneshot::Sender<Result<T, BufferError>>;

struct Append {
    lane: Lane,
    payload: Bytes,
    reply: Reply<Seq>,
    /// Room for others is made when it is committed.
    _room: OwnedSemaphorePermit,
}

enum Request {
    Peek(Budget, Reply<Batch>),
    Ack(Vec<Place>, bool, Reply<()>),
    Rewind,
    Pending(oneshot::Sender<Pending>),
    Close(Reply<()>),
}

/// A [`Buffer`] that tasks share; clones are handles to the same one.
///
/// The buffer is closed when [`AsyncBuffer::close`] is called or the last handle is dropped.
#[derive(Debug, Clone)]
pub struct AsyncBuffer {
    appends: mpsc::Sender<Append>,
    requests: mpsc::Sender<Request>,
    room: Arc<Semaphore>,
}

impl AsyncBuffer {
    /// Gives a buffer to a thread of its own.
    ///
    /// # Errors
    /// When the system has no thread.
    pub fn spawn(buffer: Buffer) -> io::Result<Self> {
        let (appends, appended) = mpsc::channel(APPENDS_MAX);
        let (requests, requested) = mpsc::channel(REQUESTS_MAX);
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let driver = Driver { buffer, waiting: VecDeque::new(), returned: VecDeque::new(), stalled: None };
        std::thread::Builder::new()
            .name("grey-buffer".into())
            .spawn(move || runtime.block_on(driver.run(appended, requested)))?;
        Ok(Self { appends, requests, room: Arc::new(Semaphore::new(APPEND_BYTES_MAX)) })
    }

    /// Takes a payload and returns its sequence once it is durable. Waits while the buffer
    /// is full, if the lane's policy is to block, and while much else waits to be written.
    ///
    /// Given up before it resolves, the payload may be stored or not.
    ///
    /// # Errors
    /// As [`Buffer::append`] and [`Buffer::commit`]; [`BufferError::Closed`].
    pub async fn append(&self, lane: Lane, payload: impl Into<Bytes>) -> Result<Seq, BufferError> {
        let payload = payload.into();
        let bytes = payload.len().clamp(1, APPEND_BYTES_MAX) as u32;
        let room = Arc::clone(&self.room).acquire_many_owned(bytes).await.map_err(|_| BufferError::Closed)?;
        let (reply, answer) = oneshot::channel();
        let append = Append { lane, payload, reply, _room: room };
        self.appends.send(append).await.map_err(|_| BufferError::Closed)?;
        answer.await.map_err(|_| BufferError::Closed)?
    }

    /// The next items, as [`Buffer::peek`]; waits until there are some. Consumers that
    /// peek through clones share one cursor, so that each item goes to one of them; since
    /// acknowledgements are cumulative, they should acknowledge in the order of their batches.
    ///
    /// Given up just as it resolves, the items come again after [`AsyncBuffer::rewind`].
    ///
    /// # Errors
    /// As [`Buffer::peek`]; [`BufferError::Closed`].
    pub async fn peek(&self, budget: Budget) -> Result<Batch, BufferError> {
        self.ask(|reply| Request::Peek(budget, reply)).await
    }

    /// As [`Buffer::ack`].
    ///
    /// # Errors
    /// As [`Buffer::ack`]; [`BufferError::Closed`].
    pub async fn ack(&self, batch: &Batch) -> Result<(), BufferError> {
        let places = batch.places().collect();
        self.ask(|reply| Request::Ack(places, false, reply)).await
    }

    /// As [`Buffer::ack_to`].
    ///
    /// # Errors
    /// As [`Buffer::ack_to`]; [`BufferError::Closed`].
    pub async fn ack_to(&self, place: Place) -> Result<(), BufferError> {
        self.ask(|reply| Request::Ack(vec![place], false, reply)).await
    }

    /// As [`Buffer::sync_acks`].
    ///
    /// # Errors
    /// As [`Buffer::sync_acks`]; [`BufferError::Closed`].
    pub async fn sync_acks(&self) -> Result<(), BufferError> {
        self.ask(|reply| Request::Ack(Vec::new(), true, reply)).await
    }

    /// Puts the cursor back to the first items that are not acknowledged, for all handles.
    ///
    /// # Errors
    /// [`BufferError::Closed`].
    pub async fn rewind(&self) -> Result<(), BufferError> {
        self.requests.send(Request::Rewind).await.map_err(|_| BufferError::Closed)
    }

    /// What waits.
    ///
    /// # Errors
    /// [`BufferError::Closed`].
    pub async fn pending(&self) -> Result<Pending, BufferError> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(Request::Pending(reply)).await.map_err(|_| BufferError::Closed)?;
        answer.await.map_err(|_| BufferError::Closed)
    }

    /// Closes the buffer, after the appends that reached it. Waiting peeks, and whatever other handles ask
    /// afterwards, get [`BufferError::Closed`].
    ///
    /// # Errors
    /// As [`Buffer::close`]; [`BufferError::Closed`] when it was closed before.
    pub async fn close(&self) -> Result<(), BufferError> {
        self.ask(Request::Close).await
    }

    async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, BufferError> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).await.map_err(|_| BufferError::Closed)?;
        answer.await.map_err(|_| BufferError::Closed)?
    }
}

/// What happens next.
enum Next {
    Append(Append),
    Request(Request),
    /// Every handle is gone.
    End,
}

struct Driver {
    buffer: Buffer,
    /// Peeks that found nothing, oldest first.
    waiting: VecDeque<(Budget, Reply<Batch>)>,
    /// Batches whose receivers gave up in between.
    returned: VecDeque<Batch>,
    /// An append that has to wait until there is room; those behind it wait, too.
    stalled: Option<Append>,
}

impl Driver {
    async fn run(mut self, mut appends: mpsc::Receiver<Append>, mut requests: mpsc::Receiver<Request>) {
        loop {
            let is_stalled = self.stalled.is_some();
            let next = poll_fn(|cx| {
                if let Poll::Ready(request) = requests.poll_recv(cx) {
                    return Poll::Ready(request.map_or(Next::End, Next::Request));
                }
                if is_stalled {
                    return Poll::Pending;
                }
                match appends.poll_recv(cx) {
                    Poll::Ready(Some(append)) => Poll::Ready(Next::Append(append)),
                    Poll::Ready(None) => Poll::Ready(Next::End),
                    Poll::Pending => Poll::Pending,
                }
            });
            match next.await {
                Next::Append(append) => self.append(append, &mut appends),
                Next::Request(Request::Peek(budget, reply)) => {
                    self.waiting.push_back((budget, reply));
                    self.feed();
                }
                Next::Request(Request::Ack(places, is_synced, reply)) => {
                    let _ = reply.send(self.ack(places, is_synced));
                    if let Some(append) = self.stalled.take() {
                        self.append(append, &mut appends);
                    }
                }
                Next::Request(Request::Rewind) => {
                    self.returned.clear();
                    self.buffer.rewind();
                    self.feed();
                }
                Next::Request(Request::Pending(reply)) => {
                    let _ = reply.send(self.buffer.pending());
                }
                Next::Request(Request::Close(reply)) => {
                    if let Ok(append) = appends.try_recv() {
                        self.append(append, &mut appends);
                    }
                    let _ = reply.send(self.buffer.close());
                    return;
                }
                Next::End => return,
            }
        }
    }

    /// Appends what has arrived and commits it.
    fn append(&mut self, first: Append, appends: &mut mpsc::Receiver<Append>) {
        let mut committing = Vec::new();
        let mut next = Some(first);
        while let Some(append) = next.take() {
            match self.buffer.append(append.lane, &append.payload) {
                Ok(seq) => committing.push((seq, append)),
                Err(error) if error.is_full() => {
                    self.stalled = Some(append);
                    break;
                }
                Err(error) => {
                    let _ = append.reply.send(Err(error));
                }
            }
            if committing.len() < APPENDS_MAX {
                next = appends.try_recv().ok();
            }
        }
        if committing.is_empty() {
            return;
        }
        let failed = self.buffer.commit().err().map(Arc::new);
        let ends = self.buffer.ends();
        for (seq, append) in committing {
            let answer = match &failed {
                Some(error) if seq >= ends.of(append.lane) => Err(BufferError::Commit(Arc::clone(error))),
                _ => Ok(seq),
            };
            // Who gave up waiting does not need to know.
            let _ = append.reply.send(answer);
        }
        self.feed();
    }

    fn ack(&mut self, places: Vec<Place>, is_synced: bool) -> Result<(), BufferError> {
        places.into_iter().try_for_each(|place| self.buffer.ack_to(place))?;
        if is_synced { self.buffer.sync_acks() } else { Ok(()) }
    }

    /// Gives waiting peeks what there is.
    fn feed(&mut self) {
        while let Some((budget, reply)) = self.waiting.pop_front() {
            if reply.is_closed() {
                continue;
            }
            let found = match self.returned.pop_front() {
                Some(batch) => Ok(batch),
                None => self.buffer.peek(budget),
            };
            match found {
                Ok(batch) if batch.is_empty() && batch.lost().is_empty() => {
                    self.waiting.push_front((budget, reply));
                    return;
                }
                answer => {
                    if let Err(Ok(batch)) = reply.send(answer) {
                        self.returned.push_back(batch);
                    }
                }
            }
        }
    }
}
