"""Writes what the fuzz targets begin with into `fuzz/corpus`: the project's own small files, and their parts."""

import zipfile
from pathlib import Path

HERE = Path(__file__).parent
CHECKPOINTS = HERE.parent / "fixtures" / "checkpoints"
SUFFIXES = {"safetensors": [".safetensors"], "torch": [".pt"], "numpy": [".npz", ".npy"]}
CSV = {
    "plain": b"1,-2.5,3e-4\n4,5,6\n",
    "header": b"a, b, c\n1, -2.5, 3e-4\n4, 5, 6",
    "quoted": b'\xef\xbb\xbf"x",y\r\n1,"-2.5"\r\n\r\ninf,nan\r\n',
    "ragged": b"1,2\n3\n",
}
LARGEST = 64 << 10  # libFuzzer is slow on longer ones


def write(target: str, name: str, data: bytes) -> None:
    folder = HERE / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    if len(data) <= LARGEST:
        (folder / f"seed-{name}").write_bytes(data)


def without_checksums(archive: bytes) -> bytes:
    """A zip archive whose directory records none, which stand in a fuzzer's way."""
    changed = bytearray(archive)
    at = archive.find(b"PK\x01\x02")
    while at >= 0:
        changed[at + 16 : at + 20] = bytes(4)
        at = archive.find(b"PK\x01\x02", at + 46)
    return bytes(changed)


def main() -> None:
    for target, suffixes in SUFFIXES.items():
        for path in sorted(CHECKPOINTS.iterdir()):
            if path.suffix in suffixes:
                write(target, path.name, path.read_bytes())
                if zipfile.is_zipfile(path):
                    write(target, f"{path.name}-unchecked", without_checksums(path.read_bytes()))
    for path in sorted(CHECKPOINTS.glob("*.pt")):
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                for name in archive.namelist():
                    if name.endswith("/data.pkl"):
                        write("pickle", path.stem, archive.read(name))
    for name, text in CSV.items():
        write("csv", name, text)
    for number in range(16):
        write("layers", str(number), bytes((17 * number + 31 * at) % 256 for at in range(24)))


if __name__ == "__main__":
    main()
