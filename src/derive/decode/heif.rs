//! HEIC and AVIF by the system's libheif. What is declared here has been the same from libheif 1.13
//! on; the crates that wrap it want newer ones than Debian 12 has.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;

use super::{Asked, Decoded};

const COLORSPACE_RGB: c_int = 1;
const CHROMA_INTERLEAVED_RGB: c_int = 10;
const CHROMA_INTERLEAVED_RGBA: c_int = 11;
const CHANNEL_INTERLEAVED: c_int = 10;
/// The codes of `heif_error` that are told apart.
const UNSUPPORTED_FILE_TYPE: c_int = 3;
const UNSUPPORTED_FEATURE: c_int = 4;

#[repr(C)]
struct Error {
    code: c_int,
    subcode: c_int,
    message: *const c_char,
}

#[repr(C)]
struct RawContext(c_void);
#[repr(C)]
struct RawHandle(c_void);
#[repr(C)]
struct RawImage(c_void);

#[link(name = "heif")]
unsafe extern "C" {
    fn heif_init(parameters: *mut c_void) -> Error;
    fn heif_context_alloc() -> *mut RawContext;
    fn heif_context_free(context: *mut RawContext);
    fn heif_context_set_max_decoding_threads(context: *mut RawContext, threads: c_int);
    fn heif_context_read_from_memory_without_copy(
        context: *mut RawContext,
        bytes: *const c_void,
        length: usize,
        options: *const c_void,
    ) -> Error;
    fn heif_context_get_primary_image_handle(
        context: *mut RawContext,
        handle: *mut *mut RawHandle,
    ) -> Error;
    fn heif_image_handle_release(handle: *const RawHandle);
    fn heif_image_handle_get_width(handle: *const RawHandle) -> c_int;
    fn heif_image_handle_get_height(handle: *const RawHandle) -> c_int;
    fn heif_image_handle_has_alpha_channel(handle: *const RawHandle) -> c_int;
    fn heif_image_handle_get_raw_color_profile_size(handle: *const RawHandle) -> usize;
    fn heif_image_handle_get_raw_color_profile(
        handle: *const RawHandle,
        profile: *mut c_void,
    ) -> Error;
    fn heif_decode_image(
        handle: *const RawHandle,
        image: *mut *mut RawImage,
        colorspace: c_int,
        chroma: c_int,
        options: *const c_void,
    ) -> Error;
    fn heif_image_release(image: *const RawImage);
    fn heif_image_get_width(image: *const RawImage, channel: c_int) -> c_int;
    fn heif_image_get_height(image: *const RawImage, channel: c_int) -> c_int;
    fn heif_image_get_plane_readonly(
        image: *const RawImage,
        channel: c_int,
        stride: *mut c_int,
    ) -> *const u8;
}

/// Loads what libheif loads, as long as files can be opened.
pub(super) fn prepare() {
    // SAFETY: no parameters are as good as some. What fails here fails with each picture too.
    unsafe { heif_init(ptr::null_mut()) };
}

pub(super) fn decode(asked: &Asked) -> Result<Decoded, String> {
    let context = Context::new(&asked.picture)?;
    let handle = context.primary()?;
    let (width, height) = handle.size()?;
    let pixels = u64::from(width) * u64::from(height);
    if pixels > asked.max_pixels {
        return Err(format!(
            "it claims {width}×{height} pixels, more than the limit of {} pixels",
            asked.max_pixels
        ));
    }
    let icc = handle.profile();
    let image = handle.decode()?;
    Ok(Decoded {
        size: image.size,
        has_alpha: image.has_alpha,
        samples: image.samples(),
        icc,
    })
}

/// A file that is being read; borrows its bytes.
struct Context<'a> {
    raw: *mut RawContext,
    _picture: &'a [u8],
}

impl<'a> Context<'a> {
    fn new(picture: &'a [u8]) -> Result<Self, String> {
        // SAFETY: a null pointer is looked for.
        let raw = unsafe { heif_context_alloc() };
        if raw.is_null() {
            return Err("there is no memory for it".into());
        }
        let context = Self {
            raw,
            _picture: picture,
        };
        // SAFETY: the context is alive; pointer and length are those of a slice that outlives it.
        check(unsafe {
            // Tiles one after another, as other workers have the other processors.
            heif_context_set_max_decoding_threads(raw, 0);
            heif_context_read_from_memory_without_copy(
                raw,
                picture.as_ptr().cast(),
                picture.len(),
                ptr::null(),
            )
        })?;
        Ok(context)
    }

    fn primary(&self) -> Result<Handle<'_>, String> {
        let mut raw = ptr::null_mut();
        // SAFETY: the context is alive, and `raw` is where the handle goes.
        check(unsafe { heif_context_get_primary_image_handle(self.raw, &mut raw) })?;
        Ok(Handle {
            raw,
            _context: self,
        })
    }
}

impl Drop for Context<'_> {
    fn drop(&mut self) {
        // SAFETY: it is alive, and nothing borrows it.
        unsafe { heif_context_free(self.raw) };
    }
}

/// The main picture of a file.
struct Handle<'a> {
    raw: *mut RawHandle,
    _context: &'a Context<'a>,
}

impl Handle<'_> {
    /// Upright.
    fn size(&self) -> Result<(u32, u32), String> {
        // SAFETY: the handle is alive.
        let size = unsafe {
            (
                heif_image_handle_get_width(self.raw),
                heif_image_handle_get_height(self.raw),
            )
        };
        positive(size)
    }

    fn profile(&self) -> Vec<u8> {
        // SAFETY: the handle is alive, and the buffer as long as it asks for.
        unsafe {
            let mut icc = vec![0; heif_image_handle_get_raw_color_profile_size(self.raw)];
            if icc.is_empty() {
                return icc;
            }
            let read = heif_image_handle_get_raw_color_profile(self.raw, icc.as_mut_ptr().cast());
            check(read).map_or_else(|_| Vec::new(), |()| icc)
        }
    }

    fn decode(&self) -> Result<Image, String> {
        // SAFETY: the handle is alive.
        let has_alpha = unsafe { heif_image_handle_has_alpha_channel(self.raw) } != 0;
        let chroma = match has_alpha {
            true => CHROMA_INTERLEAVED_RGBA,
            false => CHROMA_INTERLEAVED_RGB,
        };
        let mut raw = ptr::null_mut();
        // SAFETY: the handle is alive, and `raw` is where the image goes.
        check(unsafe {
            heif_decode_image(self.raw, &mut raw, COLORSPACE_RGB, chroma, ptr::null())
        })?;
        let image = Image {
            raw,
            has_alpha,
            size: (0, 0),
            plane: ptr::null(),
            stride: 0,
        };
        image.found()
    }
}

impl Drop for Handle<'_> {
    fn drop(&mut self) {
        // SAFETY: it is alive, and nothing borrows it.
        unsafe { heif_image_handle_release(self.raw) };
    }
}

/// Decoded pixels.
struct Image {
    raw: *mut RawImage,
    has_alpha: bool,
    size: (u32, u32),
    plane: *const u8,
    /// Bytes from row to row.
    stride: usize,
}

impl Image {
    fn found(mut self) -> Result<Self, String> {
        let mut stride = 0;
        // SAFETY: the image is alive.
        let size = unsafe {
            self.plane = heif_image_get_plane_readonly(self.raw, CHANNEL_INTERLEAVED, &mut stride);
            (
                heif_image_get_width(self.raw, CHANNEL_INTERLEAVED),
                heif_image_get_height(self.raw, CHANNEL_INTERLEAVED),
            )
        };
        self.size = positive(size)?;
        self.stride = usize::try_from(stride).unwrap_or(0);
        if self.plane.is_null() || self.stride < self.row() {
            return Err("libheif gave no pixels".into());
        }
        Ok(self)
    }

    /// Bytes of a row's pixels.
    fn row(&self) -> usize {
        self.size.0 as usize * if self.has_alpha { 4 } else { 3 }
    }

    fn samples(&self) -> Vec<u8> {
        let height = self.size.1 as usize;
        let mut samples = Vec::with_capacity(self.row() * height);
        for line in 0..height {
            // SAFETY: libheif keeps `height` rows, `stride` bytes apart, of `row()` bytes at least.
            samples.extend_from_slice(unsafe {
                std::slice::from_raw_parts(self.plane.add(line * self.stride), self.row())
            });
        }
        samples
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // SAFETY: it is alive, and nothing borrows it.
        unsafe { heif_image_release(self.raw) };
    }
}

fn positive((width, height): (c_int, c_int)) -> Result<(u32, u32), String> {
    let side = |side| u32::try_from(side).ok().filter(|side| *side > 0);
    let size = side(width).zip(side(height));
    size.ok_or_else(|| "it has no pixels".to_owned())
}

fn check(error: Error) -> Result<(), String> {
    if error.code == 0 {
        return Ok(());
    }
    if [UNSUPPORTED_FILE_TYPE, UNSUPPORTED_FEATURE].contains(&error.code) {
        return Err(format!(
            "libheif does not know its coding ({})",
            text(&error)
        ));
    }
    Err(text(&error))
}

fn text(error: &Error) -> String {
    if error.message.is_null() {
        return "it is damaged".into();
    }
    // SAFETY: libheif's messages last until the next call at least.
    let message = unsafe { CStr::from_ptr(error.message) };
    message.to_string_lossy().into_owned()
}
