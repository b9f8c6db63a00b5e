//! What `torch.save` wrote before it wrote archives, in the ways in which PyTorch still writes it.

mod common;

use common::pickle::{dict, int, legacy, list, tensor, text};
use tidegate_weights::{Checkpoint, Format};

/// PyTorch writes storages with the least significant byte first on all machines, and does not look
/// at what the file says of the machine.
#[test]
fn storages_are_little_endian_whatever_the_file_says() {
    let value = dict(&[("w", tensor("0", 2, 0, &[2], &[1]))]);
    let data: Vec<u8> = [1.5f32, -2.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    let little = legacy(&value, &[("0", &data)]);
    let key = b"little_endian";
    let at = little.windows(key.len()).position(|bytes| bytes == key).unwrap() + key.len();
    assert_eq!(little[at], 0x88);
    let mut big = little.clone();
    big[at] = 0x89;
    let mut unknown = little.clone();
    unknown[at - 1] = b'X';
    for file in [little, big, unknown] {
        let checkpoint = Checkpoint::from_bytes(file).unwrap();
        assert_eq!(checkpoint.tensor::<f32>("w").unwrap().data(), [1.5, -2.0]);
    }
}

/// `torch.save(.., pickle_protocol=4)`: from 4 on, what is in a pickle is in a frame.
#[test]
fn every_protocol_that_pytorch_offers_is_read() {
    let value = dict(&[("w", tensor("0", 1, 0, &[1], &[1]))]);
    let magic = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";
    let system = dict(&[("little_endian", b"\x88".to_vec())]);
    for protocol in 2..=5 {
        let pickle = |value: &[u8]| {
            let whole = [value, b"."].concat();
            let frame = [&b"\x95"[..], &(whole.len() as u64).to_le_bytes()].concat();
            [&[0x80, protocol][..], if protocol < 4 { &[] } else { &frame }, &whole].concat()
        };
        let parts = [&magic[..], &int(1001), &system, &value, &list(&[text("0")])];
        let mut file = parts.map(pickle).concat();
        file.extend(1u64.to_le_bytes());
        file.extend(1.5f32.to_le_bytes());
        let checkpoint = Checkpoint::from_bytes(file).unwrap_or_else(|e| panic!("{protocol}: {e}"));
        assert_eq!(checkpoint.format(), Format::TorchLegacy);
        assert_eq!(checkpoint.tensor::<f32>("w").unwrap().data(), [1.5], "{protocol}");
    }
}
