//! What a downloaded file is, from its own bytes: names and headers of others are not believed.
//!
//! | bytes | kind |
//! | --- | --- |
//! | PNG, JPEG, GIF, WebP, AVIF | an image |
//! | SVG, which may hold scripts | an image to be offered for download, never shown within a page |
//! | nothing, HTML, anything else | none |
//!
//! It reads the size of the picture where that stands near the beginning, and decodes nothing.

/// How far into a text the element `svg` may stand.
const SVG_WITHIN: usize = 16 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    pub content_type: &'static str,
    pub extension: &'static str,
    /// It could run a script where it is shown.
    pub attachment: bool,
}

const fn image(content_type: &'static str, extension: &'static str) -> Kind {
    Kind { content_type, extension, attachment: false }
}

const PNG: Kind = image("image/png", "png");
const JPEG: Kind = image("image/jpeg", "jpg");
const GIF: Kind = image("image/gif", "gif");
const WEBP: Kind = image("image/webp", "webp");
const AVIF: Kind = image("image/avif", "avif");
const SVG: Kind = Kind { content_type: "image/svg+xml", extension: "svg", attachment: true };

/// The kind of a file, or why it is no image.
pub fn kind(bytes: &[u8]) -> Result<Kind, &'static str> {
    match bytes {
        [] => Err("the image is empty (0 bytes)"),
        [0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a, ..] => Ok(PNG),
        [0xff, 0xd8, 0xff, ..] => Ok(JPEG),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Ok(GIF),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Ok(WEBP),
        [_, _, _, _, b'f', b't', b'y', b'p', b'a', b'v', b'i', b'f' | b's', ..] => Ok(AVIF),
        _ if is_svg(bytes) => Ok(SVG),
        _ if is_html(bytes) => Err("the image is a page of HTML"),
        _ => Err("the image is none: neither PNG, JPEG, GIF, WebP, AVIF nor SVG"),
    }
}

/// Width and height in pixels, where the file says so near its beginning.
pub fn size(kind: Kind, bytes: &[u8]) -> Option<(u32, u32)> {
    let be16 = |at: usize| Some(u32::from(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?)));
    let le16 = |at: usize| Some(u32::from(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?)));
    let be32 = |at: usize| Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?));
    let le24 = |at: usize| Some(le16(at)? | u32::from(*bytes.get(at + 2)?) << 16);
    let (width, height) = match kind.extension {
        "png" => (be32(16)?, be32(20)?),
        "gif" => (le16(6)?, le16(8)?),
        "jpg" => {
            let at = frame(bytes)?;
            (be16(at + 3)?, be16(at + 1)?)
        }
        "webp" => match bytes.get(12..16)? {
            b"VP8X" => (le24(24)? + 1, le24(27)? + 1),
            b"VP8 " => (le16(26)? & 0x3fff, le16(28)? & 0x3fff),
            b"VP8L" => {
                let bits = u32::from_le_bytes(*bytes.get(21..)?.first_chunk()?);
                ((bits & 0x3fff) + 1, (bits >> 14 & 0x3fff) + 1)
            }
            _ => return None,
        },
        _ => return None,
    };
    (width > 0 && height > 0).then_some((width, height))
}

/// Where the frame of a JPEG begins, after its length: precision, height, width.
fn frame(bytes: &[u8]) -> Option<usize> {
    let mut at = 2;
    loop {
        let [0xff, marker] = *bytes.get(at..)?.first_chunk()? else { return None };
        match marker {
            // Fill bytes, and markers without a length.
            0xff => at += 1,
            0x01 | 0xd0..=0xd7 => at += 2,
            // A start of frame, and not one of the tables that share its range.
            0xc0..=0xcf if !matches!(marker, 0xc4 | 0xc8 | 0xcc) => return Some(at + 4),
            0xd9 | 0xda => return None,
            _ => at += 2 + usize::from(u16::from_be_bytes(*bytes.get(at + 2..)?.first_chunk()?)),
        }
    }
}

/// Whether the first element of an XML text is `svg`.
fn is_svg(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(SVG_WITHIN)]);
    let mut rest = text.trim_start_matches('\u{feff}').trim_start();
    loop {
        let past = |end: &str| rest.find(end).map(|at| rest[at + end.len()..].trim_start());
        let next = if rest.starts_with("<!--") {
            past("-->")
        } else if rest.starts_with("<?") {
            past("?>")
        } else if rest.get(..9).is_some_and(|start| start.eq_ignore_ascii_case("<!doctype")) {
            if rest.get(9..).unwrap_or_default().trim_start().to_ascii_lowercase().starts_with("html") {
                return false;
            }
            // The internal part of a document type, if there is one, holds signs of its own.
            let inner = rest.find('[').filter(|open| rest.find('>').is_none_or(|end| *open < end));
            if inner.is_some() { past("]>") } else { past(">") }
        } else {
            let name = rest.strip_prefix('<').unwrap_or_default();
            let name = name.split(|c: char| c.is_whitespace() || c == '>' || c == '/').next().unwrap_or_default();
            return name.rsplit(':').next() == Some("svg");
        };
        match next {
            Some(next) => rest = next,
            None => return false,
        }
    }
}

pub fn is_html(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(1024)]).to_ascii_lowercase();
    let text = text.trim_start_matches('\u{feff}').trim_start();
    text.starts_with("<!doctype html") || text.starts_with("<html") || text.contains("<head") || text.contains("<body")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn png(width: u32, height: u32) -> Vec<u8> {
        let head = *b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";
        [&head[..], &width.to_be_bytes(), &height.to_be_bytes(), &[8, 2, 0, 0, 0]].concat()
    }

    #[test]
    fn a_file_is_known_by_its_bytes() {
        let jpeg = b"\xff\xd8\xff\xe0\0\x04JF\xff\xdb\0\x03x\xff\xff\xc2\0\x11\x08\x01\x02\x03\x04".to_vec();
        let webp = |kind: &[u8], rest: &[u8]| [b"RIFF\0\0\0\0WEBP", kind, rest].concat();
        for (bytes, wanted, measured) in [
            (png(640, 480), PNG, Some((640, 480))),
            (jpeg, JPEG, Some((0x304, 0x102))),
            (b"\xff\xd8\xff\xda\0\x04".to_vec(), JPEG, None),
            (b"\xff\xd8\xff".to_vec(), JPEG, None),
            (b"GIF89a\x10\x00\x20\x00".to_vec(), GIF, Some((16, 32))),
            (webp(b"VP8X", &[10, 0, 0, 0, 0, 0, 0, 0, 0x1f, 3, 0, 0x57, 2, 0]), WEBP, Some((800, 600))),
            (webp(b"VP8 ", &[0, 0, 0, 0, 0, 0, 0, 0x9d, 1, 0x2a, 0x20, 3, 0x58, 2]), WEBP, Some((800, 600))),
            (webp(b"VP8L", &[0, 0, 0, 0, 0x2f, 0x1f, 0xc3, 0x95, 0]), WEBP, Some((800, 600))),
            (webp(b"VP8?", &[]), WEBP, None),
            (b"\0\0\0\x1cftypavif\0\0\0\0".to_vec(), AVIF, None),
        ] {
            let kind = kind(&bytes).unwrap();
            assert_eq!((kind, size(kind, &bytes)), (wanted, measured), "{bytes:?}");
            assert!(!kind.attachment);
        }
    }

    #[test]
    fn an_svg_is_one_whatever_stands_before_it_and_is_never_inline() {
        for text in [
            "<svg xmlns=\"http://www.w3.org/2000/svg\"><script>alert(1)</script></svg>",
            "\u{feff}<?xml version=\"1.0\"?>\n<!-- made by hand --><svg/>",
            "<?xml version=\"1.0\"?><!DOCTYPE svg PUBLIC \"-//W3C//DTD SVG 1.1//EN\" \"x\"> <svg:svg></svg:svg>",
            "<!DOCTYPE svg [ <!ENTITY a \"b\"> ]><svg>",
        ] {
            let kind = kind(text.as_bytes()).unwrap();
            assert_eq!((kind, size(kind, text.as_bytes())), (SVG, None), "{text}");
            assert!(kind.attachment);
        }
    }

    #[test]
    fn what_is_no_image_is_named() {
        for (bytes, says) in [
            (&b""[..], "0 bytes"),
            (b"<!DOCTYPE html><html><body><svg></svg></body></html>", "HTML"),
            (b"<html><head></head></html>", "HTML"),
            (b"  <!doctype HTML>", "HTML"),
            (b"%PDF-1.7", "is none"),
            (b"<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code></Error>", "is none"),
            (b"<!-- endless", "is none"),
            (b"\x89PNG", "is none"),
            (b"MZ\x90\0", "is none"),
            (b"<svgx>", "is none"),
        ] {
            assert!(kind(bytes).unwrap_err().contains(says), "{bytes:?}: {:?}", kind(bytes));
        }
    }
}
