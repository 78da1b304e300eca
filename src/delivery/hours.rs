//! Delivering at certain hours only.

use std::time::Duration;

use super::Context;

/// Between two looks at the clock: it may be set, and machines are suspended.
const LOOK: Duration = Duration::from_secs(30);

impl Context {
    /// Returns when these are hours to upload.
    pub(super) async fn wait_for_hours(&self) {
        let mut setting = self.hours.subscribe();
        loop {
            let hours = *setting.borrow_and_update();
            let now = jiff::Zoned::now().time();
            let closed = hours.and_then(|hours| Some((hours, hours.closed_for(now)?)));
            let Some((hours, closed)) = closed else {
                self.progress.set_waits_for(None);
                return;
            };
            let why = format!("it waits for the upload hours, {hours}");
            self.progress.set_waits_for(Some(why));
            // What is waited for may change.
            let _ = tokio::time::timeout(closed.min(LOOK), setting.changed()).await;
        }
    }
}
