//! What a file may be called, and how a browser is to treat it.

use std::fmt;

/// S3 and R2 take 1024 bytes, of which the prefix in the configuration may take 200 and a slash.
const KEY_MAX: usize = 800;
/// What file systems take for one name.
const PART_MAX: usize = 255;
const CONTENT_TYPE_MAX: usize = 127;

/// A key that means the same in a folder, in a URL and in a signature: parts of plain characters between slashes. No
/// part is empty or begins with a dot, so none leads out of the folder or to what Longshore hides there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ObjectKey(String);

impl ObjectKey {
    pub fn parse(key: &str) -> Result<Self, String> {
        let bad = |problem: &str| Err(format!("object key {key:?} {problem}; keys are like images/4f/4f1c.png"));
        if key.is_empty() || key.len() > KEY_MAX {
            return Err(format!("an object key has {} bytes; it must have 1 to {KEY_MAX}", key.len()));
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '=');
        if let Some(odd) = key.chars().find(|c| !plain(*c) && *c != '/') {
            return bad(&format!("holds {odd:?}"));
        }
        for part in key.split('/') {
            if part.is_empty() || part.starts_with('.') {
                return bad("has a part that is empty or begins with a dot");
            }
            if part.len() > PART_MAX {
                return bad(&format!("has a part of more than {PART_MAX} bytes"));
            }
        }
        Ok(Self(key.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A header must be able to carry it.
pub(super) fn check_content_type(content_type: &str) -> Result<(), String> {
    let fits = content_type.len() <= CONTENT_TYPE_MAX && content_type.chars().all(|c| matches!(c, ' '..='~'));
    let essence = essence(content_type);
    let parts: Vec<&str> = essence.split('/').collect();
    if fits && parts.len() == 2 && parts.iter().all(|part| !part.is_empty() && !part.contains(' ')) {
        return Ok(());
    }
    Err(format!("{content_type:?} is no content type; write it like image/png"))
}

/// How a browser is to treat a file: `None` is as it likes, for pictures that cannot hold a script. All else, SVG above
/// all, is to be saved and not shown, since shown it would run in the origin that serves it.
pub fn disposition(content_type: &str) -> Option<&'static str> {
    match essence(content_type).as_str() {
        "image/png" | "image/jpeg" | "image/gif" | "image/webp" | "image/avif" | "image/bmp" | "image/tiff" => None,
        _ => Some("attachment"),
    }
}

/// Without parameters.
fn essence(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_key_is_plain_parts_between_slashes() {
        for key in ["a", "images/4f/4f1c.png", "images/b3=abc_d-e.tar.gz", &"x".repeat(PART_MAX)] {
            assert_eq!(ObjectKey::parse(key).unwrap().as_str(), key);
        }
    }

    #[test]
    fn no_key_leads_out_of_the_folder() {
        for key in [
            "",
            "/etc/passwd",
            "../x",
            "a/../../x",
            "a/..",
            "./a",
            "a/./b",
            "a//b",
            "a/",
            ".incoming/put-1",
            "a/.hidden",
            "a\\..\\b",
            "C:x",
            "a\0b",
            "a\nb",
            "a b",
            "a%2e%2e",
            "ä",
            &"x".repeat(PART_MAX + 1),
            &"x/".repeat(KEY_MAX),
        ] {
            let error = ObjectKey::parse(key).unwrap_err();
            assert!(error.contains("object key") && !error.contains('\0') && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn a_content_type_fits_into_a_header() {
        for good in ["image/png", "text/html; charset=utf-8", "IMAGE/SVG+XML"] {
            assert_eq!(check_content_type(good), Ok(()));
        }
        for bad in ["", "png", "image/", "/png", "image/png/x", "image/png\r\nx: y", "image/pñg", "a b/c"] {
            assert!(check_content_type(bad).is_err(), "{bad:?}");
        }
        assert!(check_content_type(&format!("a/{}", "b".repeat(CONTENT_TYPE_MAX))).is_err());
    }

    #[test]
    fn only_pictures_without_scripts_are_shown() {
        for shown in ["image/png", "Image/JPEG", "image/webp; q=1"] {
            assert_eq!(disposition(shown), None, "{shown}");
        }
        for saved in ["image/svg+xml", "IMAGE/SVG+XML; charset=utf-8", "text/html", "application/pdf", "text/xml", ""] {
            assert_eq!(disposition(saved), Some("attachment"), "{saved}");
        }
    }
}
