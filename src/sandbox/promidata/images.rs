//! The images: tiny, valid PNG and JPEG files, each told apart by a number, addressed by their content.
//!
//! ```text
//! number ─▶ bytes ─▶ BLAKE3 as 64 hex ─▶ /promidata/images/<hash>.png|jpg
//! ```
//!
//! A number makes the same bytes whenever it is asked for, so only the hashes are kept. Nobody ought to look at them:
//! they are 8 × 8 points.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::sandbox::dials::Dials;
use crate::sandbox::dice::Dice;

/// What `image_huge` announces and sends.
pub const HUGE: u64 = 500_000_000;

const SIDE: u32 = 8;

/// A grey JPEG, baseline, 8 × 8: from its start up to the end of its JFIF header, and what follows.
const JPEG_HEAD: &[u8] = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00";
const JPEG_REST: &[u8] = b"\xff\xdb\x00\x43\x00\
    \x10\x0b\x0c\x0e\x0c\x0a\x10\x0e\x0d\x0e\x12\x11\x10\x13\x18\x28\x1a\x18\x16\x16\x18\x31\x23\x25\x1d\x28\x3a\x33\
    \x3d\x3c\x39\x33\x38\x37\x40\x48\x5c\x4e\x40\x44\x57\x45\x37\x38\x50\x6d\x51\x57\x5f\x62\x67\x68\x67\x3e\x4d\x71\
    \x79\x70\x64\x78\x5c\x65\x67\x63\
    \xff\xc0\x00\x0b\x08\x00\x08\x00\x08\x01\x01\x11\x00\
    \xff\xc4\x00\x14\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\
    \xff\xc4\x00\x14\x10\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\
    \xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00\x3f\xff\xd9";

/// What stands behind an image's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    Png,
    Jpeg,
    /// A page with status 200.
    Html,
    /// No bytes at all.
    Empty,
    /// 500 MB that begin like the image.
    Huge,
    /// With a script in it.
    Svg,
}

/// The hashes of images 0 to their count.
pub struct Images {
    hashes: Vec<blake3::Hash>,
    by_hash: HashMap<blake3::Hash, u32>,
}

impl Images {
    pub fn new(count: u32) -> Self {
        let hashes: Vec<blake3::Hash> = (0..count).map(|number| blake3::hash(&bytes(number))).collect();
        let by_hash = hashes.iter().zip(0..).map(|(&hash, number)| (hash, number)).collect();
        Self { hashes, by_hash }
    }

    pub fn count(&self) -> u32 {
        self.hashes.len() as u32
    }

    /// `<64 hex>.png`: the last part of its address.
    pub fn name(&self, number: u32) -> String {
        format!("{}.{}", self.hashes[number as usize].to_hex(), extension(number))
    }

    /// By the last part of its address; case matters.
    pub fn number(&self, name: &str) -> Option<u32> {
        let (hash, extension_asked) = name.split_once('.')?;
        let &number = self.by_hash.get(&blake3::Hash::from_hex(hash).ok()?)?;
        (extension_asked == extension(number) && self.name(number) == name).then_some(number)
    }
}

fn is_png(number: u32) -> bool {
    number.is_multiple_of(3)
}

fn extension(number: u32) -> &'static str {
    if is_png(number) { "png" } else { "jpg" }
}

/// Its `Content-Type`, whatever the dials put there.
pub fn kind(number: u32) -> &'static str {
    if is_png(number) { "image/png" } else { "image/jpeg" }
}

/// Which content the dials put there; the same for every request, so that it can be expected. The worst wins.
pub fn content(seed: u64, number: u32, dials: &Dials) -> Content {
    let mut dice = Dice::new(seed, &[0x1a9e, u64::from(number)]);
    let wrong = [
        (dials.image_huge, Content::Huge),
        (dials.image_html, Content::Html),
        (dials.image_svg, Content::Svg),
        (dials.image_empty, Content::Empty),
    ];
    let right = if is_png(number) { Content::Png } else { Content::Jpeg };
    wrong
        .into_iter()
        .map(|(rate, content)| (dice.chance(rate), content))
        .find(|(hit, _)| *hit)
        .map_or(right, |(_, c)| c)
}

/// The right bytes.
pub fn bytes(number: u32) -> Vec<u8> {
    if is_png(number) { png(number) } else { jpeg(number) }
}

pub fn svg(number: u32) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"8\" height=\"8\"><script>alert({number})</script>\
         <rect width=\"8\" height=\"8\"/></svg>"
    )
}

/// The number stands in a comment.
fn jpeg(number: u32) -> Vec<u8> {
    let comment = format!("sandbox {number:010}");
    let mut out = JPEG_HEAD.to_vec();
    out.extend_from_slice(&[0xff, 0xfe]);
    out.extend_from_slice(&(comment.len() as u16 + 2).to_be_bytes());
    out.extend_from_slice(comment.as_bytes());
    out.extend_from_slice(JPEG_REST);
    out
}

/// Eight bits each of red, green and blue, not compressed. The number stands in the first two points.
fn png(number: u32) -> Vec<u8> {
    let mut rows = Vec::new();
    for row in 0..SIDE {
        // Each row begins with its filter: none.
        rows.push(0);
        for column in 0..SIDE {
            rows.extend_from_slice(&[(number >> 8) as u8 ^ (row * 16) as u8, number as u8, (column * 16) as u8]);
        }
    }
    rows[1..5].copy_from_slice(&number.to_be_bytes());

    let mut header = Vec::new();
    header.extend_from_slice(&SIDE.to_be_bytes());
    header.extend_from_slice(&SIDE.to_be_bytes());
    header.extend_from_slice(&[8, 2, 0, 0, 0]);

    let length = rows.len() as u16;
    // A zlib stream of one stored block.
    let mut data = vec![0x78, 0x01, 0x01];
    data.extend_from_slice(&length.to_le_bytes());
    data.extend_from_slice(&(!length).to_le_bytes());
    data.extend_from_slice(&rows);
    data.extend_from_slice(&adler32(&rows).to_be_bytes());

    let mut out = b"\x89PNG\r\n\x1a\n".to_vec();
    chunk(&mut out, b"IHDR", &header);
    chunk(&mut out, b"IDAT", &data);
    chunk(&mut out, b"IEND", &[]);
    out
}

fn chunk(out: &mut Vec<u8>, kind: &[u8; 4], data: &[u8]) {
    out.extend_from_slice(&(data.len() as u32).to_be_bytes());
    let from = out.len();
    out.extend_from_slice(kind);
    out.extend_from_slice(data);
    let sum = crc32(&out[from..]);
    out.extend_from_slice(&sum.to_be_bytes());
}

/// Bit by bit: the images are small.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
    !bytes.iter().fold(u32::MAX, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), |crc, _| step(crc)))
}

fn adler32(bytes: &[u8]) -> u32 {
    let (mut low, mut high) = (1_u32, 0_u32);
    for &byte in bytes {
        low = (low + u32::from(byte)) % 65_521;
        high = (high + low) % 65_521;
    }
    high << 16 | low
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn checksums_are_the_known_ones() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(adler32(b"Wikipedia"), 0x11e6_0398);
    }

    #[test]
    fn every_image_is_one_of_its_own() {
        let images = Images::new(2_000);
        let names: HashSet<String> = (0..images.count()).map(|number| images.name(number)).collect();
        assert_eq!(names.len(), 2_000);
        assert_eq!(images.number(&images.name(7)), Some(7));
        let other = images.name(7).replace(".jpg", ".png");
        assert_eq!(images.number(&other), None);
        assert_eq!(images.number(&images.name(7).to_uppercase().replace("JPG", "jpg")), None);
    }

    #[test]
    fn contents_keep_their_rates() {
        let dials = Dials { image_html: 0.25, image_svg: 0.25, ..Dials::default() };
        let of = |wanted| (0..1_000).filter(|&number| content(1, number, &dials) == wanted).count();
        assert!((200..300).contains(&of(Content::Html)) && (140..240).contains(&of(Content::Svg)));
        assert_eq!(of(Content::Huge) + of(Content::Empty), 0);
        assert_eq!(content(1, 3, &Dials::default()), Content::Png);
        assert_eq!(content(1, 4, &Dials::default()), Content::Jpeg);
    }
}
