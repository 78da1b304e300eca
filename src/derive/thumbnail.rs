//! A picture's thumbnail: 200×300 pixels, filled and centre-cropped, upright, JPEG.

/// What a thumbnail should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Pixels.
    pub width: u32,
    pub height: u32,
    /// JPEG quality, 1 to 100.
    pub quality: u8,
    /// Pictures with more pixels than this are refused before they are decoded.
    pub max_pixels: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            width: 200,
            height: 300,
            quality: 85,
            max_pixels: 200_000_000,
        }
    }
}

/// A made thumbnail.
#[derive(Debug, Clone)]
pub struct Thumbnail {
    pub jpeg: Vec<u8>,
    pub width: u32,
    pub height: u32,
}

/// Why there is no thumbnail, one sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ThumbnailError(pub String);

/// Whether the content is a picture that thumbnails are made of. `head` is the file's first bytes;
/// 64 are enough. The name does not count.
pub fn is_picture(_head: &[u8]) -> bool {
    todo!()
}

/// Makes the thumbnail of `picture`, a whole file in memory. Never panics; memory is bounded by
/// `options.max_pixels`.
pub fn make(_picture: &[u8], _options: &Options) -> Result<Thumbnail, ThumbnailError> {
    todo!()
}
