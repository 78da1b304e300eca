//! A large file in pieces, by TUS 1.0.0 (<https://tus.io/protocols/resumable-upload>) as Supabase has
//! it: one after the other, 6 MiB each. What is broken off is gone on with, after a crash too.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use reqwest::{Method, RequestBuilder, StatusCode};
use url::Url;

use super::SupabaseRemote;
use super::api::Api;
use crate::remote::flow;
use crate::remote::http::{self, Answer};
use crate::remote::{Put, RemoteError, RemoteErrorKind, StoredPart, Unfinished, UploadNotes};

/// The only size that Supabase takes, but for the last piece.
const PIECE: u64 = 6 << 20;
/// Tries of a piece, and the pause after the first that failed.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(200);

const TUS: &str = "tus-resumable";
const OFFSET: &str = "upload-offset";

/// How far an upload has come, and the hash of all before.
struct Position {
    id: String,
    offset: u64,
    hasher: blake3::Hasher,
}

/// An upload that nobody will go on with: given up when this is dropped before its end.
struct Begun {
    api: Arc<Api>,
    id: Option<String>,
}

impl Drop for Begun {
    fn drop(&mut self) {
        let (Some(id), Ok(runtime)) = (self.id.take(), tokio::runtime::Handle::try_current())
        else {
            return;
        };
        let api = self.api.clone();
        // The service forgets it by itself after a day, should this fail.
        runtime.spawn(async move { api.give_up(&id).await });
    }
}

impl SupabaseRemote {
    #[allow(clippy::too_many_arguments)] // an upload is all of these
    pub(super) async fn put_large(
        &self,
        what: &str,
        put: &Put,
        file: &Arc<File>,
        len: u64,
        name: &str,
        unfinished: Option<&Unfinished>,
        notes: Option<&dyn UploadNotes>,
    ) -> Result<Option<String>, RemoteError> {
        let found = match unfinished {
            Some(unfinished) => self.position_of(what, unfinished, file, len).await?,
            None => None,
        };
        let mut position = match found {
            Some(position) => position,
            None => {
                if let (Some(unfinished), Some(notes)) = (unfinished, notes) {
                    self.api.give_up(&unfinished.name).await?;
                    notes.given_up().await;
                }
                let id = self.begin(what, put, len, name).await?;
                if let Some(notes) = notes {
                    notes.began(id.clone()).await?;
                }
                Position {
                    id,
                    offset: 0,
                    hasher: blake3::Hasher::new(),
                }
            }
        };
        let mut begun = Begun {
            api: self.api.clone(),
            // What was noted somebody may go on with.
            id: notes.is_none().then(|| position.id.clone()),
        };
        let sent = self
            .send_rest(what, put, file, len, &mut position, notes)
            .await;
        if let Err(error) = sent {
            if let Some(notes) = notes.filter(|_| !error.may_pass()) {
                let _ = self.api.give_up(&position.id).await;
                notes.given_up().await;
            }
            return Err(error);
        }
        begun.id = None;
        if let Some(notes) = notes {
            notes.completed().await;
        }
        Ok(None)
    }

    /// Where to go on, if the service still has the upload and what it has is of this file.
    async fn position_of(
        &self,
        what: &str,
        unfinished: &Unfinished,
        file: &Arc<File>,
        len: u64,
    ) -> Result<Option<Position>, RemoteError> {
        let Some(there) = self.api.offset(what, &unfinished.name).await? else {
            return Ok(None);
        };
        let mut position = Position {
            id: unfinished.name.clone(),
            offset: 0,
            hasher: blake3::Hasher::new(),
        };
        while position.offset < there {
            let number = (position.offset / PIECE) as u32 + 1;
            let length = PIECE.min(len - position.offset);
            let bytes =
                flow::read_hashed(file, position.offset, length as usize, &mut position.hasher)
                    .await?;
            let noted = unfinished.parts.iter().find(|part| part.number == number);
            let checksum = blake3::hash(&bytes).to_hex();
            // The last piece is never one of these: with it the upload would have been done.
            let is_same = noted.is_some_and(|part| part.checksum == *checksum);
            if !is_same || position.offset + length > there {
                return Ok(None);
            }
            position.offset += length;
        }
        Ok((there < len).then_some(position))
    }

    async fn begin(
        &self,
        what: &str,
        put: &Put,
        len: u64,
        name: &str,
    ) -> Result<String, RemoteError> {
        let fields = [
            ("bucketName", self.address().bucket.clone()),
            ("objectName", name.to_owned()),
            ("contentType", put.content_type.clone()),
            ("cacheControl", self.address().cache.to_string()),
            ("metadata", Self::metadata(put)),
        ];
        let fields = fields
            .map(|(name, value)| format!("{name} {}", aws_smithy_types::base64::encode(value)));
        let request = self
            .api
            .tus(Method::POST, self.api.upload_url(""))
            .header("x-upsert", self.upsert())
            .header("upload-length", len)
            .header("upload-metadata", fields.join(","));
        let answer = self
            .api
            .send(what, request, &self.api.http.progress())
            .await?;
        let location = answer
            .headers
            .get(LOCATION)
            .and_then(|url| url.to_str().ok());
        let path = location.map(|url| url.split(['?', '#']).next().unwrap_or_default());
        let id = path.and_then(|path| path.trim_end_matches('/').rsplit('/').next());
        match id {
            Some(id) if !id.is_empty() => Ok(id.to_owned()),
            _ => Err(RemoteError::transient(format!(
                "{what} failed: Supabase did not say where its pieces go"
            ))),
        }
    }

    /// All pieces from `position` on. The last one is sent only when all of the file has been seen to
    /// be what it should.
    async fn send_rest(
        &self,
        what: &str,
        put: &Put,
        file: &Arc<File>,
        len: u64,
        position: &mut Position,
        notes: Option<&dyn UploadNotes>,
    ) -> Result<(), RemoteError> {
        while position.offset < len {
            let length = PIECE.min(len - position.offset);
            let _room = self.memory.room(length).await;
            let bytes =
                flow::read_hashed(file, position.offset, length as usize, &mut position.hasher)
                    .await?;
            if position.offset + length == len && position.hasher.finalize() != put.hash {
                return Err(RemoteError::content_changed());
            }
            let checksum = blake3::hash(&bytes).to_hex().to_string();
            self.send_piece(what, position, bytes).await?;
            let number = (position.offset / PIECE) as u32 + 1;
            position.offset += length;
            if let Some(notes) = notes.filter(|_| position.offset < len) {
                notes.stored(StoredPart {
                    number,
                    etag: None,
                    checksum,
                });
            }
        }
        Ok(())
    }

    async fn send_piece(
        &self,
        what: &str,
        position: &Position,
        bytes: bytes::Bytes,
    ) -> Result<(), RemoteError> {
        let end = position.offset + bytes.len() as u64;
        let mut attempt = 1;
        loop {
            let progress = self.api.http.progress();
            let request = self
                .api
                .tus(Method::PATCH, self.api.upload_url(&position.id))
                .header("x-upsert", self.upsert())
                .header(OFFSET, position.offset)
                .header(CONTENT_TYPE, "application/offset+octet-stream")
                .body(http::body(progress.body(bytes.clone())));
            let error = match self.api.send(what, request, &progress).await {
                Ok(answer) if offset_of(&answer) == Some(end) => return Ok(()),
                Ok(_) => RemoteError::transient(format!(
                    "{what} failed: Supabase has lost count of its pieces"
                )),
                Err(error) => error,
            };
            let again = error.kind == RemoteErrorKind::Transient
                && error.retry_after.is_none()
                && attempt < TRIES;
            // The answer may have been lost, and the piece not.
            match self.api.offset(what, &position.id).await {
                Ok(Some(offset)) if offset == end => return Ok(()),
                Ok(None) => {
                    return Err(RemoteError::transient(format!(
                        "{what} failed: Supabase has forgotten what it had of it; it begins anew ({error})"
                    )));
                }
                _ => {}
            }
            if !again {
                return Err(error);
            }
            tracing::debug!(what, offset = position.offset, %error, "a piece is sent again");
            tokio::time::sleep(PAUSE * 2_u32.pow(attempt)).await;
            attempt += 1;
        }
    }
}

impl Api {
    /// Where uploads are known by their ids. What the service calls an upload is a URL, of which only
    /// the last component is gone by: the secrets go nowhere else.
    fn upload_url(&self, id: &str) -> Url {
        self.url(&["upload", "resumable"], id)
    }

    fn tus(&self, method: Method, url: Url) -> RequestBuilder {
        self.request(method, url).header(TUS, "1.0.0")
    }

    /// How much of an upload the service has; `None` if it has none of that id.
    async fn offset(&self, what: &str, id: &str) -> Result<Option<u64>, RemoteError> {
        let request = self.tus(Method::HEAD, self.upload_url(id));
        let progress = self.http.progress();
        let answer = self.http.send(what, request, &progress).await?;
        match answer.status {
            status if status.is_success() => Ok(offset_of(&answer)),
            StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::BAD_REQUEST => Ok(None),
            _ => Err(self.refused(what, &answer)),
        }
    }

    /// Has the service forget an upload; one that it has forgotten is no error.
    pub(super) async fn give_up(&self, id: &str) -> Result<(), RemoteError> {
        let what = "giving up an upload";
        let request = self.tus(Method::DELETE, self.upload_url(id));
        let progress = self.http.progress();
        let answer = self.http.send(what, request, &progress).await?;
        match answer.status {
            status if status.is_success() => Ok(()),
            StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::BAD_REQUEST => Ok(()),
            _ => Err(self.refused(what, &answer)),
        }
    }
}

fn offset_of(answer: &Answer) -> Option<u64> {
    let offset: &HeaderValue = answer.headers.get(OFFSET)?;
    offset.to_str().ok()?.parse().ok()
}
