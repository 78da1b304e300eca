//! Names that a service would refuse, or make one of two, in letters that it takes: what does not
//! stand as it is becomes `_xHH`, byte by byte. Each escaped name belongs to one name only.

use percent_encoding::percent_decode_str;

/// A name of which characters stay that `stands` allows, except spaces at either end, which services
/// trim, and whatever would be read as escaped.
pub(super) fn escape(name: &str, stands: impl Fn(char) -> bool) -> String {
    let mut escaped = String::with_capacity(name.len());
    let last = name.chars().count().saturating_sub(1);
    for (number, (at, c)) in name.char_indices().enumerate() {
        let trimmed = c == ' ' && (number == 0 || number == last);
        if stands(c) && !trimmed && !is_escaped(&name[at..]) {
            escaped.push(c);
        } else {
            escape_char(c, &mut escaped);
        }
    }
    escaped
}

/// One character, whatever it is.
pub(super) fn escape_char(c: char, escaped: &mut String) {
    for byte in c.encode_utf8(&mut [0; 4]).bytes() {
        escaped.push_str(&format!("_x{byte:02X}"));
    }
}

/// What was escaped; `None` if that was no text.
pub(super) fn unescape(name: &str) -> Option<String> {
    let mut encoded = String::with_capacity(name.len());
    for (at, c) in name.char_indices() {
        match c {
            // The `x` after it goes below.
            '_' if is_escaped(&name[at..]) => encoded.push('%'),
            'x' if at > 0 && name.is_char_boundary(at - 1) && is_escaped(&name[at - 1..]) => {}
            '%' => encoded.push_str("%25"),
            c => encoded.push(c),
        }
    }
    let decoded = percent_decode_str(&encoded).decode_utf8();
    decoded.ok().map(Into::into)
}

/// Whether a text begins with what is read as an escaped byte.
fn is_escaped(text: &str) -> bool {
    let text = text.as_bytes();
    let is_digit = |byte: &u8| byte.is_ascii_digit() || (b'A'..=b'F').contains(byte);
    text.len() >= 4 && text.starts_with(b"_x") && text[2..4].iter().all(is_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_escaped_name_leads_back() {
        let stands = |c: char| c.is_ascii_alphanumeric() || "_ .".contains(c);
        for name in [
            "plain_x.jpg",
            "a&b",
            "_x26",
            "__x26",
            "_x5Fx26",
            "_x_x26",
            "üx26",
            " ends ",
            " ",
            "%41",
            "_x2",
        ] {
            let escaped = escape(name, stands);
            assert!(
                escaped.chars().all(stands) && escaped.trim() == escaped,
                "{escaped}"
            );
            assert_eq!(unescape(&escaped).as_deref(), Some(name), "{escaped}");
        }
        assert_eq!(escape("ü &", |c| c != '&'), "ü _x26");
        assert_eq!(unescape("_xFF"), None);
    }
}
