//! What is said between a worker and the process that decodes for it: numbers of 64 bits, little-endian,
//! then the bytes that they announce. Both ends are the same program.

use std::io::{self, Read, Write};

/// Which library decodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Library {
    WebP = 1,
    Heif = 2,
}

/// A picture to be decoded.
#[derive(Debug)]
pub struct Request<'a> {
    pub decoder: Library,
    /// The size to decode to, pixels; only of [`Library::WebP`].
    pub size: (u32, u32),
    pub max_pixels: u64,
    /// Processor time, whole seconds.
    pub max_seconds: u64,
    pub picture: &'a [u8],
}

/// The same as it arrives.
pub struct Asked {
    pub decoder: Library,
    pub size: (u32, u32),
    #[cfg_attr(
        all(not(feature = "heif"), not(test)),
        expect(dead_code, reason = "WebP is asked for a size")
    )]
    pub max_pixels: u64,
    pub max_seconds: u64,
    pub picture: Vec<u8>,
}

/// Pixels of eight bits a channel.
#[derive(Debug, PartialEq, Eq)]
pub struct Decoded {
    pub size: (u32, u32),
    pub has_alpha: bool,
    /// Red, green, blue and, if it has any, alpha; rows without gaps.
    pub samples: Vec<u8>,
    /// Empty for none.
    pub icc: Vec<u8>,
}

/// No colour profile is larger, bytes.
const MAX_ICC: u64 = 16 << 20;
/// A reason is a sentence at most, bytes.
const MAX_REASON: u64 = 4096;

pub fn send_request(to: &mut impl Write, request: &Request<'_>) -> io::Result<()> {
    let numbers = [
        request.decoder as u64,
        request.size.0.into(),
        request.size.1.into(),
        request.max_pixels,
        request.max_seconds,
        request.picture.len() as u64,
    ];
    write_numbers(to, &numbers)?;
    to.write_all(request.picture)?;
    to.flush()
}

/// `None` at the end of the conversation.
pub fn receive_request(from: &mut impl Read) -> io::Result<Option<Asked>> {
    let [decoder, width, height, max_pixels, max_seconds, length] = match read_numbers(from) {
        Err(end) if end.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        numbers => numbers?,
    };
    let decoder = match decoder {
        1 => Library::WebP,
        2 => Library::Heif,
        _ => return Err(io::ErrorKind::InvalidData.into()),
    };
    Ok(Some(Asked {
        decoder,
        size: (narrow(width)?, narrow(height)?),
        max_pixels,
        max_seconds,
        picture: read_bytes(from, length)?,
    }))
}

/// The pixels, or the end of a sentence on why there are none.
pub fn send_answer(to: &mut impl Write, answer: &Result<Decoded, String>) -> io::Result<()> {
    match answer {
        Ok(decoded) => {
            let (width, height) = decoded.size;
            let icc = decoded.icc.len() as u64;
            let numbers = [
                1,
                width.into(),
                height.into(),
                decoded.has_alpha.into(),
                icc,
            ];
            write_numbers(to, &numbers)?;
            to.write_all(&decoded.icc)?;
            to.write_all(&decoded.samples)?;
        }
        Err(why) => {
            write_numbers(to, &[0, 0, 0, 0, why.len() as u64])?;
            to.write_all(why.as_bytes())?;
        }
    }
    to.flush()
}

/// Whoever answers may have been taken over by the picture: nothing is believed that the limits do
/// not allow.
pub fn receive_answer(
    from: &mut impl Read,
    max_pixels: u64,
) -> io::Result<Result<Decoded, String>> {
    let [ok, width, height, has_alpha, extra] = read_numbers(from)?;
    if ok == 0 {
        let why = read_bytes(from, extra.min(MAX_REASON))?;
        return Ok(Err(String::from_utf8_lossy(&why).into_owned()));
    }
    let size = (narrow(width)?, narrow(height)?);
    let pixels = width * height;
    if pixels > max_pixels || extra > MAX_ICC {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let has_alpha = has_alpha != 0;
    let icc = read_bytes(from, extra)?;
    let samples = read_bytes(from, pixels * if has_alpha { 4 } else { 3 })?;
    Ok(Ok(Decoded {
        size,
        has_alpha,
        samples,
        icc,
    }))
}

fn narrow(number: u64) -> io::Result<u32> {
    u32::try_from(number).map_err(|_| io::ErrorKind::InvalidData.into())
}

fn write_numbers(to: &mut impl Write, numbers: &[u64]) -> io::Result<()> {
    let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
    to.write_all(&bytes)
}

fn read_numbers<const N: usize>(from: &mut impl Read) -> io::Result<[u64; N]> {
    let mut numbers = [0; N];
    for number in &mut numbers {
        let mut bytes = [0; 8];
        from.read_exact(&mut bytes)?;
        *number = u64::from_le_bytes(bytes);
    }
    Ok(numbers)
}

fn read_bytes(from: &mut impl Read, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length as usize];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_answers_arrive_as_they_were_sent() {
        let mut pipe = Vec::new();
        let request = Request {
            decoder: Library::WebP,
            size: (2, 1),
            max_pixels: 10,
            max_seconds: 3,
            picture: b"RIFF",
        };
        send_request(&mut pipe, &request).unwrap();
        let asked = receive_request(&mut pipe.as_slice()).unwrap().unwrap();
        assert_eq!((asked.decoder, asked.size), (Library::WebP, (2, 1)));
        assert_eq!((asked.max_pixels, asked.max_seconds), (10, 3));
        assert_eq!(asked.picture, b"RIFF");
        assert!(receive_request(&mut [].as_slice()).unwrap().is_none());

        let decoded = Decoded {
            size: (2, 1),
            has_alpha: true,
            samples: vec![1, 2, 3, 4, 5, 6, 7, 8],
            icc: vec![9],
        };
        for answer in [Ok(decoded), Err("it is damaged".to_owned())] {
            let mut pipe = Vec::new();
            send_answer(&mut pipe, &answer).unwrap();
            assert_eq!(receive_answer(&mut pipe.as_slice(), 10).unwrap(), answer);
        }
    }

    #[test]
    fn an_answer_beyond_the_limit_is_not_believed() {
        let mut pipe = Vec::new();
        write_numbers(&mut pipe, &[1, 65_535, 65_535, 0, 0]).unwrap();
        assert!(receive_answer(&mut pipe.as_slice(), 1_000_000).is_err());
        let mut pipe = Vec::new();
        write_numbers(&mut pipe, &[1, 1, 1, 0, u64::MAX]).unwrap();
        assert!(receive_answer(&mut pipe.as_slice(), 1_000_000).is_err());
    }
}
