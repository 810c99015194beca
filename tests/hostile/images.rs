//! Images that ask for more than there is.

use std::fs;
use std::path::PathBuf;

use calib8::dataset::{self, ImageError};

use super::limits;

/// A PNG that is nothing but a header, with its checksum (CRC-32, reflected), and the first bytes of its data.
fn png_header(width: u32, height: u32) -> Vec<u8> {
    let mut body = b"IHDR".to_vec();
    body.extend([width.to_be_bytes(), height.to_be_bytes()].concat());
    body.extend([8, 2, 0, 0, 0]);
    let crc = !body.iter().fold(!0u32, |crc, byte| {
        let step = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 };
        (0..8).fold(crc ^ u32::from(*byte), step)
    });
    let data = b"\0\0\x10\0IDAT\x78\x01\xed\xc1".to_vec();
    [b"\x89PNG\r\n\x1a\n\0\0\0\x0d".to_vec(), body, crc.to_be_bytes().to_vec(), data].concat()
}

fn file(folder: &tempfile::TempDir, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join("image.png");
    fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn huge_images_are_refused_before_memory_is_taken() {
    limits::in_child("images::huge", &[]);
}

#[test]
#[ignore = "run in a child process by huge_images_are_refused_before_memory_is_taken"]
fn huge() {
    limits::confine();
    let folder = tempfile::tempdir().unwrap();
    // 10 gigapixels, the largest that a header can declare, and one that is only just too large.
    for (width, height) in [(100_000, 100_000), (0x7fff_ffff, 0x7fff_ffff), (100_000_001, 1)] {
        let error = dataset::decode(&file(&folder, &png_header(width, height))).unwrap_err();
        assert!(
            matches!(error, ImageError::TooLarge { .. } | ImageError::Decode { .. }),
            "{width}x{height}: {error}"
        );
        if u64::from(width) * u64::from(height) < 1 << 40 {
            let expected = format!("the image is {width}x{height} pixels, the limit is 100 million");
            assert!(error.to_string().contains(&expected), "{error}");
        }
    }
    // As JPEG and GIF declare them, 16 bits a side: 4 gigapixels.
    let jpeg =
        b"\xff\xd8\xff\xc0\x00\x11\x08\xff\xff\xff\xff\x03\x01\x22\x00\x02\x11\x00\x03\x11\x00\xff\xd9";
    let gif = b"GIF89a\xff\xff\xff\xff\x00\x00\x00,\0\0\0\0\xff\xff\xff\xff\0\x02\x02D\x01\0;";
    for bytes in [&jpeg[..], &gif[..]] {
        assert!(dataset::decode(&file(&folder, bytes)).is_err());
    }
}

/// The limit belongs to the process, so this has one of its own.
#[test]
fn decoding_stays_within_the_memory_of_the_run() {
    limits::in_child("images::within_a_limit", &[]);
}

#[test]
#[ignore = "run in a child process by decoding_stays_within_the_memory_of_the_run"]
fn within_a_limit() {
    limits::confine();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.png");
    image::RgbImage::from_pixel(1000, 1000, image::Rgb([7, 8, 9])).save(&path).unwrap();
    dataset::limit_decoding(20_000_000);
    assert_eq!(dataset::decode(&path).unwrap().dimensions(), (1000, 1000));
    dataset::limit_decoding(8_000_000);
    let error = dataset::decode(&path).unwrap_err().to_string();
    let expected = "the image is 1000x1000 pixels and takes 10 MB to be decoded, `memory_limit` leaves 8 MB";
    assert!(error.contains(expected), "{error}");
    dataset::limit_decoding(10_000_000);
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let path = path.clone();
            std::thread::spawn(move || dataset::decode(&path).is_ok())
        })
        .collect();
    assert!(threads.into_iter().all(|thread| thread.join().unwrap()), "all get their turn");
}
