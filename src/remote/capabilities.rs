/// What a remote can do beside storing objects. Who needs more asks here, and says what is missing;
/// nobody asks which remote it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    pub thumbnails: Thumbnails,
    /// [`Remote::list`](super::Remote::list) names what is there.
    pub lists: bool,
    /// [`Remote::head`](super::Remote::head) and [`Remote::get`](super::Remote::get) find objects.
    pub reads: bool,
    /// [`Remote::put`](super::Remote::put) replaces what is there; if not, it is refused for
    /// good, or both are there.
    pub overwrites: bool,
    pub deletes: bool,
    pub copies: Copies,
    /// Objects are found by the names of their files. If not, what a renamed file was delivered as stays
    /// what it is.
    pub names: bool,
    /// Files of no bytes can be stored.
    pub empty_files: bool,
    /// Objects can be stored encoded, and say so to whoever reads them.
    pub encodings: bool,
    /// [`Remote::put_resumable`](super::Remote::put_resumable) has notes kept of small files too.
    pub notes_all: bool,
    /// Files sent at a time, unless the person says how many; `None`: the program's default.
    pub workers: Option<usize>,
}

/// What becomes of pictures' thumbnails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thumbnails {
    /// They are stored as objects.
    Kept,
    /// The service makes them of the original, which is all that is sent; the
    /// [proof](super::Proof::thumbnail_url) says where they are.
    Made,
    /// There are none.
    Absent,
}

/// When [`Remote::copy`](super::Remote::copy) may find a way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copies {
    Always,
    /// Only if the source is [not wanted any more](super::Copy::moves).
    AsMoves,
    Never,
}

impl Default for Capabilities {
    /// Those of an object store.
    fn default() -> Self {
        Self {
            thumbnails: Thumbnails::Kept,
            lists: true,
            reads: true,
            overwrites: true,
            deletes: true,
            copies: Copies::Always,
            names: true,
            empty_files: true,
            encodings: false,
            notes_all: false,
            workers: None,
        }
    }
}
