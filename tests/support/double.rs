//! An HTTP service of the test's own making, on loopback, on a thread of its own. Ends with its value.
#![allow(dead_code)] // each test file uses a part of it

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::Arc;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Came {
    pub method: String,
    /// As it was written, percent-encoded.
    pub path: String,
    pub query: Vec<(String, String)>,
    pub headers: BTreeMap<String, String>,
    pub body: Bytes,
}

impl Came {
    /// The path's components, decoded.
    pub fn components(&self) -> Vec<String> {
        let components = self.path.trim_start_matches('/').split('/');
        let decode = |text| percent_decode_str(text).decode_utf8().unwrap().into_owned();
        components.map(decode).collect()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub fn asked(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().find(|(asked, _)| asked == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The parts of a multipart form: name and content, in their order.
    pub fn form(&self) -> Vec<(String, Bytes)> {
        let kind = self.header("content-type").expect("a content type");
        let boundary = kind.strip_prefix("multipart/form-data; boundary=");
        let boundary = boundary.expect(kind).trim_matches('"');
        let (mut rest, line) = (self.body.clone(), format!("--{boundary}"));
        let mut parts = Vec::new();
        assert!(rest.starts_with(line.as_bytes()));
        let _ = rest.split_to(line.len());
        let end = format!("\r\n{line}");
        while rest.starts_with(b"\r\n") {
            let _ = rest.split_to(2);
            let head = rest.split_to(find(&rest, b"\r\n\r\n"));
            let _ = rest.split_to(4);
            let content = rest.split_to(find(&rest, end.as_bytes()));
            let _ = rest.split_to(end.len());
            let head = String::from_utf8(head.to_vec()).unwrap();
            let name = head.split_once("name=\"").expect(&head).1;
            parts.push((name.split_once('"').unwrap().0.to_owned(), content));
        }
        assert!(rest.starts_with(b"--"), "the form has no end");
        parts
    }
}

fn find(bytes: &[u8], text: &[u8]) -> usize {
    memchr::memmem::find(bytes, text).expect("a whole form")
}

pub type Answer = Response<Full<Bytes>>;

pub struct Double {
    /// `http://127.0.0.1:port`, or `https://localhost:port`.
    pub endpoint: String,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Double {
    pub fn start(answer: impl Fn(&Came) -> Answer + Send + Sync + 'static) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap(), None, answer)
    }

    /// Behind TLS.
    pub fn start_tls(
        tls: TlsAcceptor,
        answer: impl Fn(&Came) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap(), Some(tls), answer)
    }

    fn on(
        listener: TcpListener,
        tls: Option<TlsAcceptor>,
        answer: impl Fn(&Came) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let endpoint = match tls {
            None => format!("http://{address}"),
            Some(_) => format!("https://localhost:{}", address.port()),
        };
        listener.set_nonblocking(true).unwrap();
        let (stop, mut stopped) = oneshot::channel();
        let answer = Arc::new(answer);
        let thread = std::thread::spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                loop {
                    let socket = tokio::select! {
                        accepted = listener.accept() => accepted.unwrap().0,
                        _ = &mut stopped => return,
                    };
                    let answer = answer.clone();
                    let service = service_fn(move |request| {
                        let answer = answer.clone();
                        async move { serve(request, &*answer).await }
                    });
                    let http = hyper::server::conn::http1::Builder::new();
                    let tls = tls.clone();
                    tokio::spawn(async move {
                        match tls {
                            None => {
                                let _ = http.serve_connection(TokioIo::new(socket), service).await;
                            }
                            Some(tls) => {
                                if let Ok(socket) = tls.accept(socket).await {
                                    let _ =
                                        http.serve_connection(TokioIo::new(socket), service).await;
                                }
                            }
                        }
                    });
                }
            });
        });
        Self {
            endpoint,
            stop: Some(stop),
            thread: Some(thread),
        }
    }
}

impl Drop for Double {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(
    request: Request<Incoming>,
    answer: &(impl Fn(&Came) -> Answer + ?Sized),
) -> Result<Answer, BrokenOff> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| BrokenOff)?.to_bytes();
    let query = head.uri.query().unwrap_or_default();
    let headers = head.headers.iter();
    let came = Came {
        method: head.method.to_string(),
        path: head.uri.path().to_owned(),
        query: url::form_urlencoded::parse(query.as_bytes())
            .into_owned()
            .collect(),
        headers: headers
            .map(|(name, value)| {
                let value = String::from_utf8_lossy(value.as_bytes());
                (name.to_string(), value.into_owned())
            })
            .collect(),
        body,
    };
    Ok(answer(&came))
}

/// The client went away in the middle of its request.
#[derive(Debug)]
struct BrokenOff;

impl std::fmt::Display for BrokenOff {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("broken off")
    }
}

impl std::error::Error for BrokenOff {}

pub fn json(status: u16, body: &serde_json::Value) -> Answer {
    let answer = Response::builder().status(status);
    let answer = answer.header("content-type", "application/json; charset=utf-8");
    answer.body(body.to_string().into()).unwrap()
}
