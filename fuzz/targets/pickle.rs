//! Reads an archive of `torch.save` whose pickle is any bytes, so that no checksum stands before them.
#![no_main]

#[path = "../../crates/tidegate-weights/tests/common/read.rs"]
mod read;
#[allow(dead_code, reason = "the target uses a part")]
#[path = "../../crates/tidegate-weights/tests/common/zip.rs"]
mod zip;

use libfuzzer_sys::fuzz_target;
use zip::Zip;

fuzz_target!(|pickle: &[u8]| {
    let mut archive = Zip::new().stored("a/data.pkl", pickle).stored("a/byteorder", b"little");
    for (key, bytes) in [("0", 64), ("1", 256), ("2", 1024), ("3", 0)] {
        archive = archive.stored(&format!("a/data/{key}"), &vec![0x3f; bytes]);
    }
    let _ = read::read_all(&archive.finish());
});
