//! NATS JetStream: a server of its own, a stream in files that is a work queue, and as
//! much of a client as that takes, over the text protocol.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::net::TcpStream;
use std::ops::Range;
use std::path::Path;

use grey_bench::process::Server;
use grey_bench::{Outcome, debian, ports, version};

use crate::contestant::{Contestant, Payloads, look};

const INBOX: &str = "_INBOX.bench";
const STREAM: &str = r#"{"name":"Q","subjects":["q"],"storage":"file","retention":"workqueue","num_replicas":1}"#;
const CONSUMER: &str =
    r#"{"stream_name":"Q","config":{"durable_name":"C","ack_policy":"explicit","max_ack_pending":100000}}"#;
/// The first version that can sync each message.
const SYNCS_FROM: (u32, u32) = (2, 10);

/// Whether the installed server can sync before it acknowledges.
pub(crate) fn can_sync() -> Outcome<bool> {
    let text = version(&debian("nats-server")?, "--version")?;
    let digits = text.rsplit('v').next().unwrap_or_default();
    let mut numbers = digits.split('.').filter_map(|number| number.parse::<u32>().ok());
    Ok((numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= SYNCS_FROM)
}

/// What the table calls it.
pub(crate) fn name() -> String {
    debian("nats-server").and_then(|program| version(&program, "--version")).unwrap_or_default()
}

pub(crate) struct Nats {
    server: Server,
    input: BufReader<TcpStream>,
    output: BufWriter<TcpStream>,
    payload: Vec<u8>,
}

/// A message that the server sent.
struct Message {
    reply: String,
    has_status: bool,
}

impl Nats {
    pub(crate) fn new(dir: &Path) -> Outcome<Self> {
        let address = ports::free(1)?[0];
        let store = dir.join("store");
        let sync = if can_sync()? { "sync_interval: always" } else { "" };
        let config = format!(
            "listen: \"{address}\"\njetstream {{ store_dir: \"{}\"\n max_file_store: 100GB\n {sync}\n }}\n",
            store.display()
        );
        let path = dir.join("nats.conf");
        std::fs::write(&path, config)?;
        let args: [OsString; 2] = ["-c".into(), path.into()];
        let mut server = Server::start("nats-server", &debian("nats-server")?, &args, dir)?;
        let stream = server.wait("listen", |_| TcpStream::connect(address).ok())?;
        stream.set_nodelay(true)?;
        let mut nats = Self {
            server,
            input: BufReader::with_capacity(1 << 20, stream.try_clone()?),
            output: BufWriter::with_capacity(1 << 20, stream),
            payload: Vec::new(),
        };
        write!(
            nats.output,
            "CONNECT {{\"verbose\":false,\"pedantic\":false,\"headers\":true,\"no_responders\":true}}\r\nSUB {INBOX}.* 1\r\n"
        )?;
        // Until its store is read the server answers with an error.
        for _ in 0..60_000 {
            if nats.request("$JS.API.STREAM.CREATE.Q", STREAM)?
                && nats.request("$JS.API.CONSUMER.DURABLE.CREATE.Q.C", CONSUMER)?
            {
                return Ok(nats);
            }
            nats.server.check()?;
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        let said = String::from_utf8_lossy(&nats.payload).into_owned();
        Err(format!("JetStream has no stream: {said}").into())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// True when the answer is no error.
    fn request(&mut self, subject: &str, body: &str) -> Outcome<bool> {
        write!(self.output, "PUB {subject} {INBOX}.api {}\r\n{body}\r\n", body.len())?;
        let message = self.next()?;
        Ok(!message.has_status && !self.payload.windows(7).any(|part| part == b"\"error\""))
    }

    /// The next message; its payload is kept.
    fn next(&mut self) -> Outcome<Message> {
        self.output.flush()?;
        let mut line = String::new();
        loop {
            line.clear();
            if self.input.read_line(&mut line)? == 0 {
                return Err("nats-server closed the connection".into());
            }
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["MSG" | "HMSG", rest @ ..] => {
                    let has_status = words[0] == "HMSG";
                    let lens = if has_status { 2 } else { 1 };
                    let reply = if rest.len() == 3 + lens { rest[2].to_owned() } else { String::new() };
                    let len: usize = rest.last().ok_or("a message without a length")?.parse()?;
                    self.payload.resize(len + 2, 0);
                    self.input.read_exact(&mut self.payload)?;
                    self.payload.truncate(len);
                    return Ok(Message { reply, has_status });
                }
                ["PING"] => {
                    self.output.write_all(b"PONG\r\n")?;
                    self.output.flush()?;
                }
                ["-ERR", ..] => return Err(line.trim().to_owned().into()),
                _ => {}
            }
        }
    }
}

impl Contestant for Nats {
    fn append(&mut self, payloads: &Payloads, records: Range<usize>) -> Outcome<()> {
        for record in records.clone() {
            let payload = payloads.get(record);
            write!(self.output, "PUB q {INBOX}.ack {}\r\n", payload.len())?;
            self.output.write_all(payload)?;
            self.output.write_all(b"\r\n")?;
        }
        for _ in records {
            let answer = self.next()?;
            if answer.has_status || !self.payload.windows(5).any(|part| part == b"\"seq\"") {
                return Err(format!("not stored: {}", String::from_utf8_lossy(&self.payload)).into());
            }
        }
        Ok(())
    }

    fn reopen(&mut self) -> Outcome<()> {
        self.server.check()
    }

    fn drain(&mut self, count: usize, sum: &mut u64) -> Outcome<usize> {
        let body = format!("{{\"batch\":{count},\"no_wait\":true}}");
        write!(self.output, "PUB $JS.API.CONSUMER.MSG.NEXT.Q.C {INBOX}.next {}\r\n{body}\r\n", body.len())?;
        let mut acks = Vec::with_capacity(count);
        while acks.len() < count {
            let message = self.next()?;
            if message.has_status {
                break;
            }
            *sum = look(*sum, &self.payload);
            acks.push(message.reply);
        }
        // The last one is answered, and so all are there.
        if let Some((last, others)) = acks.split_last() {
            for reply in others {
                write!(self.output, "PUB {reply} 4\r\n+ACK\r\n")?;
            }
            write!(self.output, "PUB {last} {INBOX}.done 4\r\n+ACK\r\n")?;
            self.next()?;
        }
        Ok(acks.len())
    }
}
