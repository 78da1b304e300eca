//! `--metrics-listen`: what `.upload/metrics` says, over HTTP.
//!
//! One task accepts, and one more answers each connection, [`CONNECTIONS`] at most; they end with the
//! daemon's runtime.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::{DaemonError, failed};
use crate::status::collect::Source;
use crate::status::metrics::MEDIA_TYPE;

/// Connections that are answered at a time; others wait.
const CONNECTIONS: usize = 16;
/// How long a client may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a connection may last.
const LONGEST: Duration = Duration::from_secs(60);
/// After a failure to accept.
const PAUSE: Duration = Duration::from_secs(1);

const PATH: &str = "/metrics";

/// An address that is ours.
pub(super) struct MetricsServer {
    listener: TcpListener,
    address: SocketAddr,
}

impl MetricsServer {
    pub fn bind(address: SocketAddr) -> Result<Self, DaemonError> {
        let bound = TcpListener::bind(address).and_then(|listener| {
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            Ok(Self { listener, address })
        });
        bound.map_err(|error| {
            DaemonError::Failed(format!(
                "metrics cannot be served at {address}: {error}; choose another --metrics-listen"
            ))
        })
    }

    pub fn url(&self) -> String {
        format!("http://{}{PATH}", self.address)
    }

    pub fn serve(&self, runtime: &Handle, source: Arc<Source>) -> Result<(), DaemonError> {
        let listener = self.listener.try_clone().map_err(failed)?;
        let _in_runtime = runtime.enter();
        let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;
        runtime.spawn(accept(listener, source));
        Ok(())
    }
}

async fn accept(listener: tokio::net::TcpListener, source: Arc<Source>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // Fails only when it is closed, which nobody does.
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "a connection for metrics could not be accepted");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let source = source.clone();
        tokio::spawn(async move {
            let answered = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE)
                .half_close(true)
                .serve_connection(
                    TokioIo::new(stream),
                    service_fn(|request| {
                        let answer = answer(&request, &source);
                        async { Ok::<_, Infallible>(answer) }
                    }),
                );
            // A client that goes away, or says nothing, is its own business.
            let _ = tokio::time::timeout(LONGEST, answered).await;
            drop(place);
        });
    }
}

fn answer(request: &Request<Incoming>, source: &Source) -> Response<String> {
    let (status, text) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, PATH) => match source.metrics() {
            Ok(text) => (StatusCode::OK, text),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        },
        (_, PATH) => (StatusCode::METHOD_NOT_ALLOWED, "use GET\n".to_owned()),
        _ => (StatusCode::NOT_FOUND, format!("metrics are at {PATH}\n")),
    };
    let media_type = match status {
        StatusCode::OK => MEDIA_TYPE,
        _ => "text/plain; charset=utf-8",
    };
    let mut response = Response::new(text);
    *response.status_mut() = status;
    response.headers_mut().insert(
        CONTENT_TYPE,
        hyper::header::HeaderValue::from_static(media_type),
    );
    response
}
