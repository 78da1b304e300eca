//! An HTTP proxy between a client and a real S3 server that breaks things as networks do.
#![allow(dead_code)] // each test binary uses its part

use std::net::TcpListener;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::{Method, Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::watch;

/// What befalls a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The connection closes before anything is forwarded.
    Reset,
    /// The connection closes after half of the body has been forwarded.
    Truncate,
    /// Half a second passes first.
    Delay,
    /// A 500 with an S3 error.
    InternalError,
    /// A 503 SlowDown that asks for a second.
    SlowDown,
    /// A 429 without advice and without XML.
    TooManyRequests,
    /// One byte of the body is another when it arrives.
    Corrupt,
    /// The server does as asked; its answer is lost.
    DropAnswer,
    /// The server does as asked; its answer takes half a second more.
    LateAnswer,
    /// A 403, as to credentials that may not do that.
    Denied,
    /// A 400, as to credentials whose time is up.
    Expired,
    /// A 403, as from a service whose clock is an hour ahead.
    Skewed,
}

impl Fault {
    /// Those that pass.
    pub const ALL: [Self; 8] = [
        Self::Reset,
        Self::Truncate,
        Self::Delay,
        Self::InternalError,
        Self::SlowDown,
        Self::TooManyRequests,
        Self::Corrupt,
        Self::DropAnswer,
    ];
}

const LATE: Duration = Duration::from_millis(500);

/// Which fault, if any, befalls a request.
pub type Plan = dyn Fn(&Request<Incoming>) -> Option<Fault> + Send + Sync;

/// Listens on loopback for as long as the runtime runs that started it.
pub struct Proxy {
    /// `http://127.0.0.1:port`
    pub endpoint: String,
    faults: Arc<AtomicUsize>,
    hang_up: watch::Sender<u32>,
    connections: Arc<AtomicUsize>,
}

impl Proxy {
    /// Stands before `server` (`http://host:port`) and does as `plan` says.
    pub fn start(server: &str, plan: Box<Plan>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let faults = Arc::new(AtomicUsize::new(0));
        let handler = Arc::new(Handler {
            server: server.trim_start_matches("http://").to_owned(),
            client: Client::builder(TokioExecutor::new()).build_http(),
            plan,
            faults: faults.clone(),
        });
        let (hang_up, hung_up) = watch::channel(0);
        let connections = Arc::new(AtomicUsize::new(0));
        let open = connections.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let handler = handler.clone();
                let (open, mut hung_up) = (open.clone(), hung_up.clone());
                hung_up.mark_unchanged();
                let service = hyper::service::service_fn(move |request| {
                    let handler = handler.clone();
                    async move { handler.answer(request).await }
                });
                let http = hyper::server::conn::http1::Builder::new();
                open.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(async move {
                    let connection = http.serve_connection(TokioIo::new(socket), service);
                    let mut connection = std::pin::pin!(connection);
                    tokio::select! {
                        _ = &mut connection => {}
                        // An error: nobody is left who could ask for it.
                        Ok(()) = hung_up.changed() => {
                            connection.as_mut().graceful_shutdown();
                            let _ = connection.await;
                        }
                    }
                    open.fetch_sub(1, Ordering::Relaxed);
                });
            }
        });
        Self {
            endpoint,
            faults,
            hang_up,
            connections,
        }
    }

    /// Closes the connections that are idle, as servers do after a while.
    pub async fn hang_up(&self) {
        self.hang_up.send_modify(|times| *times += 1);
        while self.connections.load(Ordering::Relaxed) > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// How many requests were broken so far.
    pub fn faults(&self) -> usize {
        self.faults.load(Ordering::Relaxed)
    }
}

/// Makes hyper close the connection without an answer.
#[derive(Debug)]
struct Closed;

impl std::fmt::Display for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("closed by the proxy")
    }
}

impl std::error::Error for Closed {}

struct Handler {
    server: String,
    client: Client<HttpConnector, Halting>,
    plan: Box<Plan>,
    faults: Arc<AtomicUsize>,
}

impl Handler {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Closed> {
        let fault = (self.plan)(&request);
        if fault.is_some() {
            self.faults.fetch_add(1, Ordering::Relaxed);
        }
        let (head, body) = request.into_parts();
        let mut body = body.collect().await.map_err(|_| Closed)?.to_bytes();
        match fault {
            Some(Fault::Reset) => return Err(Closed),
            Some(Fault::Delay) => tokio::time::sleep(LATE).await,
            Some(Fault::InternalError) => return Ok(error(500, "InternalError", None)),
            Some(Fault::Denied) => return Ok(error(403, "AccessDenied", None)),
            Some(Fault::Expired) => return Ok(error(400, "ExpiredToken", None)),
            Some(Fault::Skewed) => {
                let mut answer = error(403, "RequestTimeTooSkewed", None);
                let ahead = std::time::SystemTime::now() + Duration::from_secs(3600);
                let date = aws_smithy_types::DateTime::from(ahead);
                let date = date.fmt(aws_smithy_types::date_time::Format::HttpDate);
                let date = date.unwrap().parse().unwrap();
                answer.headers_mut().insert("date", date);
                return Ok(answer);
            }
            Some(Fault::SlowDown) => return Ok(error(503, "SlowDown", Some("1"))),
            Some(Fault::TooManyRequests) => {
                let answer = Response::builder().status(429);
                return Ok(answer.body("<html>later</html>".into()).unwrap());
            }
            Some(Fault::Corrupt) if !body.is_empty() => {
                let mut bytes = body.to_vec();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                body = bytes.into();
            }
            _ => {}
        }
        let halt = fault == Some(Fault::Truncate) && head.method == Method::PUT;
        let answer = self.forward(head, Halting::new(body, halt)).await?;
        match fault {
            Some(Fault::DropAnswer) => Err(Closed),
            Some(Fault::LateAnswer) => {
                tokio::time::sleep(LATE).await;
                Ok(answer)
            }
            _ => Ok(answer),
        }
    }

    /// Sends the request on with the headers that were signed, `Host` among them.
    async fn forward(
        &self,
        mut head: hyper::http::request::Parts,
        body: Halting,
    ) -> Result<Response<Full<Bytes>>, Closed> {
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        head.uri = format!("http://{}{path}", self.server).parse().unwrap();
        let request = Request::from_parts(head, body);
        let answer = self.client.request(request).await.map_err(|_| Closed)?;
        let (head, body) = answer.into_parts();
        let body = body.collect().await.map_err(|_| Closed)?.to_bytes();
        Ok(Response::from_parts(head, body.into()))
    }
}

fn error(status: u16, code: &str, retry_after: Option<&str>) -> Response<Full<Bytes>> {
    let mut answer = Response::builder().status(status);
    if let Some(seconds) = retry_after {
        answer = answer.header("Retry-After", seconds);
    }
    let text = format!("<Error><Code>{code}</Code><Message>as planned</Message></Error>");
    answer.body(text.into()).unwrap()
}

/// A body that announces its length and may break off half way.
struct Halting {
    rest: Bytes,
    len: u64,
    halt: bool,
}

impl Halting {
    fn new(bytes: Bytes, halt: bool) -> Self {
        let len = bytes.len() as u64;
        let keep = if halt { bytes.len() / 2 } else { bytes.len() };
        Self {
            rest: bytes.slice(..keep),
            len,
            halt,
        }
    }
}

impl hyper::body::Body for Halting {
    type Data = Bytes;
    type Error = Closed;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Closed>>> {
        let rest = std::mem::take(&mut self.rest);
        if !rest.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(rest))));
        }
        Poll::Ready(self.halt.then_some(Err(Closed)))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.len)
    }
}

/// Whether a request carries a part of a multipart upload.
pub fn is_part<B>(request: &Request<B>) -> bool {
    let query = request.uri().query().unwrap_or_default();
    request.method() == Method::PUT && query.contains("partNumber=")
}
