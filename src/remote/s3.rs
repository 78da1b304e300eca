use async_trait::async_trait;

use super::{Key, Proof, Put, Remote, RemoteError};

pub struct S3Remote;

impl S3Remote {
    pub async fn open(_url: &url::Url) -> Result<Self, RemoteError> {
        todo!()
    }
}

#[async_trait]
impl Remote for S3Remote {
    fn describe(&self) -> String {
        todo!()
    }
    async fn probe(&self) -> Result<(), RemoteError> {
        todo!()
    }
    async fn put(&self, _put: Put) -> Result<Proof, RemoteError> {
        todo!()
    }
    fn url(&self, _key: &Key) -> Option<String> {
        todo!()
    }
}
