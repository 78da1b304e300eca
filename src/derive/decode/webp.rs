//! WebP by libwebp, which scales while it decodes.

use std::mem::MaybeUninit;

use libwebp_sys as sys;

use super::{Asked, Decoded};

pub(super) fn decode(asked: &Asked) -> Result<Decoded, String> {
    let (width, height) = asked.size;
    let side = |side: u32| i32::try_from(side).map_err(|_| "it is too large".to_owned());
    let (wide, high) = (side(width)?, side(height)?);
    let mut config = MaybeUninit::uninit();
    // SAFETY: it writes all of the configuration, and says so by true.
    let mut config = unsafe {
        if !sys::WebPInitDecoderConfig(config.as_mut_ptr()) {
            return Err("libwebp is not the one that this program was built for".into());
        }
        config.assume_init()
    };
    let picture = &asked.picture;
    // SAFETY: pointer and length are those of a slice.
    let seen = unsafe { sys::WebPGetFeatures(picture.as_ptr(), picture.len(), &mut config.input) };
    if seen != sys::VP8StatusCode::VP8_STATUS_OK {
        return Err(reason(seen));
    }
    let has_alpha = config.input.has_alpha != 0;
    let channels = if has_alpha { 4 } else { 3 };
    let row = width as usize * channels;
    let mut samples = vec![0; row * height as usize];
    config.options.use_scaling = 1;
    config.options.scaled_width = wide;
    config.options.scaled_height = high;
    config.output.colorspace = match has_alpha {
        true => sys::WEBP_CSP_MODE::MODE_RGBA,
        false => sys::WEBP_CSP_MODE::MODE_RGB,
    };
    config.output.is_external_memory = 1;
    config.output.u.RGBA = sys::WebPRGBABuffer {
        rgba: samples.as_mut_ptr(),
        stride: row as i32,
        size: samples.len(),
    };
    // SAFETY: the picture is a slice; the output is `samples`, with its true size.
    let status = unsafe { sys::WebPDecode(picture.as_ptr(), picture.len(), &mut config) };
    if status != sys::VP8StatusCode::VP8_STATUS_OK {
        return Err(reason(status));
    }
    Ok(Decoded {
        size: asked.size,
        has_alpha,
        samples,
        icc: Vec::new(),
    })
}

fn reason(status: sys::VP8StatusCode) -> String {
    use sys::VP8StatusCode::{
        VP8_STATUS_NOT_ENOUGH_DATA, VP8_STATUS_OUT_OF_MEMORY, VP8_STATUS_UNSUPPORTED_FEATURE,
    };
    match status {
        VP8_STATUS_NOT_ENOUGH_DATA => "it ends early; the file was probably cut short",
        VP8_STATUS_OUT_OF_MEMORY => "it needs more memory than the limit allows",
        VP8_STATUS_UNSUPPORTED_FEATURE => "it uses what libwebp does not know",
        _ => "it is damaged",
    }
    .into()
}
