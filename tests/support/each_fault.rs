//! Each way in which networks and services fail, alone, at the first request.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use outboxfs::remote::{Remote, RemoteErrorKind};

use crate::faults::{Fault, Proxy};
use crate::objects::{noise, put};

/// `open` opens the remote at the endpoint that breaks; of `unseen` it notices nothing.
pub async fn is_told_truly(
    server: &str,
    unseen: &[Fault],
    open: impl AsyncFn(&str) -> Arc<dyn Remote>,
) {
    for fault in Fault::ALL {
        let broken = AtomicUsize::new(0);
        let first = move |_: &_| (broken.fetch_add(1, Ordering::Relaxed) == 0).then_some(fault);
        let proxy = Proxy::start(server, Box::new(first));
        let remote = open(&proxy.endpoint).await;
        let put = put("small.jpg", &noise(20_000, 1));
        match remote.put(put.clone()).await {
            Ok(_) => assert!(unseen.contains(&fault), "{fault:?}"),
            Err(error) => {
                assert_eq!(error.kind, RemoteErrorKind::Transient, "{fault:?}: {error}");
                let asked = (fault == Fault::SlowDown).then_some(Duration::from_secs(1));
                assert_eq!(error.retry_after, asked, "{fault:?}: {error}");
            }
        }
        remote.put(put).await.unwrap();
    }
}
