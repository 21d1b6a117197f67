//! HTTP/1.1 by hand, so that a test decides every byte of an answer, the wrong ones too.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::AbortHandle,
    time::Instant,
};

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    /// Without the query.
    pub path: String,
    pub query: BTreeMap<String, String>,
    /// The target as it stands in the request line.
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub at: Instant,
}

impl Request {
    /// A header's value; of several the first.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }
}

/// What is answered.
#[derive(Debug, Clone)]
pub enum Reply {
    Answer(Answer),
    /// These bytes, and the connection is closed.
    Raw(Vec<u8>),
    /// The head, then a chunk over and over, until the client has had enough or so many are sent.
    Endless {
        head: Vec<u8>,
        chunk: Vec<u8>,
        times: usize,
    },
    /// The head, then a byte from time to time, for ever.
    Trickle {
        head: Vec<u8>,
        every: Duration,
    },
    /// These bytes, and then nothing more, ever.
    Part(Vec<u8>),
    /// Nothing, ever.
    Hang,
    /// The connection is closed without a byte.
    Close,
}

#[derive(Debug, Clone, Default)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub delay: Duration,
}

impl Answer {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into(), delay: Duration::ZERO }
    }

    pub fn json(body: impl Into<Vec<u8>>) -> Self {
        Self::new(200, body).header("content-type", "application/json")
    }

    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Self {
        Self::Answer(answer)
    }
}

/// Decides about each request, and hears when an answer is on its way to the client.
pub trait Handler: Send + Sync + 'static {
    fn reply(&self, request: Request) -> Reply;
    /// The whole answer was handed to the socket.
    fn sent(&self, _request: &Request) {}
}

impl<F: Fn(Request) -> Reply + Send + Sync + 'static> Handler for F {
    fn reply(&self, request: Request) -> Reply {
        self(request)
    }
}

/// A server on a port of its own; ends with its value.
pub struct Server {
    pub addr: SocketAddr,
    accepting: AbortHandle,
    connections: Arc<Connections>,
}

#[derive(Default)]
struct Connections {
    open: AtomicUsize,
    /// Who was accepted last.
    last: Mutex<Option<SocketAddr>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Server {
    pub async fn start(handler: Arc<impl Handler>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        let connections = Arc::new(Connections::default());
        let counted = connections.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((stream, peer)) = listener.accept().await {
                counted.open.fetch_add(1, Ordering::SeqCst);
                *counted.last.lock().expect("not poisoned") = Some(peer);
                let (handler, counted) = (handler.clone(), counted.clone());
                tokio::spawn(async move {
                    // A client that goes away is no matter of the server's.
                    let _ = serve(stream, handler).await;
                    counted.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { addr, accepting: accepting.abort_handle(), connections }
    }

    /// Until all that a client sent before it was killed was read, and nobody else is connected.
    pub async fn settled(&self) {
        // Connections are accepted in their order.
        let probe = TcpStream::connect(self.addr).await.expect("it listens");
        let own = probe.local_addr().expect("an address");
        eventually("the probe is accepted", async || *self.connections.last.lock().expect("not poisoned") == Some(own))
            .await;
        drop(probe);
        eventually("all are closed", async || self.connections.open.load(Ordering::SeqCst) == 0).await;
    }

    pub fn origin(&self) -> String {
        format!("http://{}", self.addr)
    }
}

async fn serve(stream: TcpStream, handler: Arc<impl Handler>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    while let Some(request) = read(&mut stream).await? {
        let kept = request.clone();
        match handler.reply(request) {
            Reply::Answer(answer) => {
                if !answer.delay.is_zero() {
                    tokio::time::sleep(answer.delay).await;
                }
                stream.get_mut().write_all(&encode(&kept, &answer)).await?;
                stream.get_mut().flush().await?;
                handler.sent(&kept);
            }
            Reply::Raw(bytes) => {
                stream.get_mut().write_all(&bytes).await?;
                return stream.get_mut().shutdown().await;
            }
            Reply::Endless { head, chunk, times } => {
                stream.get_mut().write_all(&head).await?;
                for _ in 0..times {
                    stream.get_mut().write_all(&chunk).await?;
                }
                return stream.get_mut().shutdown().await;
            }
            Reply::Trickle { head, every } => {
                stream.get_mut().write_all(&head).await?;
                loop {
                    stream.get_mut().write_all(b" ").await?;
                    stream.get_mut().flush().await?;
                    tokio::time::sleep(every).await;
                }
            }
            Reply::Part(bytes) => {
                stream.get_mut().write_all(&bytes).await?;
                hang(&mut stream).await?;
                return Ok(());
            }
            Reply::Hang => {
                hang(&mut stream).await?;
                return Ok(());
            }
            Reply::Close => return Ok(()),
        }
    }
    Ok(())
}

/// Until the client goes away.
async fn hang(stream: &mut BufReader<TcpStream>) -> std::io::Result<()> {
    let mut rest = [0; 64];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

fn encode(request: &Request, answer: &Answer) -> Vec<u8> {
    let mut out = format!("HTTP/1.1 {} {}\r\n", answer.status, "x");
    for (name, value) in &answer.headers {
        out.push_str(&format!("{name}: {value}\r\n"));
    }
    let bodyless = matches!(answer.status, 204 | 304) || request.method == "HEAD";
    if !bodyless && !answer.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length")) {
        out.push_str(&format!("content-length: {}\r\n", answer.body.len()));
    }
    out.push_str("\r\n");
    let mut out = out.into_bytes();
    if !bodyless {
        out.extend_from_slice(&answer.body);
    }
    out
}

async fn read(stream: &mut BufReader<TcpStream>) -> std::io::Result<Option<Request>> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    let at = Instant::now();
    let mut parts = line.split_whitespace();
    let (method, target) = (parts.next().unwrap_or_default().to_owned(), parts.next().unwrap_or_default().to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(n, _)| n == "content-length").and_then(|(_, v)| v.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    let url = url::Url::parse("http://x").and_then(|base| base.join(&target)).expect("a target");
    let query = url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
    Ok(Some(Request { method, path: url.path().to_owned(), query, target, headers, body, at }))
}

/// Waits until something holds, ten seconds at most.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(10);
    while !holds().await {
        assert!(Instant::now() < until, "it did not come to this within ten seconds: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
