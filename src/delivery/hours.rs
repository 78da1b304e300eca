//! Delivering at certain hours only.

use std::time::Duration;

use super::Context;

/// Between two looks at the clock: it may be set, and machines are suspended.
const LOOK: Duration = Duration::from_secs(30);

impl Context {
    /// Returns when these are hours to upload.
    pub(super) async fn wait_for_hours(&self) {
        let Some(hours) = self.options.upload_hours else {
            return;
        };
        loop {
            let closed = hours.closed_for(jiff::Zoned::now().time());
            let Some(closed) = closed else {
                self.progress.set_waits_for(None);
                return;
            };
            let why = format!("it waits for the upload hours, {hours}");
            self.progress.set_waits_for(Some(why));
            tokio::time::sleep(closed.min(LOOK)).await;
        }
    }
}
