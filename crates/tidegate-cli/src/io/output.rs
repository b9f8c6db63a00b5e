//! Files that appear whole or not at all.

use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, Once};

use anyhow::{Context, Result, bail, ensure};
use tempfile::NamedTempFile;

/// The unfinished file, which a signal that ends the program must not leave behind.
static UNFINISHED: Mutex<Option<PathBuf>> = Mutex::new(None);

/// Creates the file `path` with what `fill` writes.
///
/// `fill` writes into a temporary file in the same folder, which takes the name `path` only when it
/// is complete: an error, a full disk or a signal leaves a file that was there before as it was. A
/// pipe or a device at `path` is written directly.
pub(crate) fn write_file(path: &Path, fill: impl FnOnce(&mut File) -> Result<()>) -> Result<()> {
    let place = || path.display().to_string();
    if is_special(path) {
        return fill(&mut File::options().write(true).open(path).with_context(place)?)
            .with_context(place);
    }
    let target = destination(path)?;
    let mut file = temporary_beside(&target).with_context(place)?;
    let mut result = Ok(());
    if let Ok(before) = fs::metadata(&target) {
        result = file.as_file().set_permissions(before.permissions()).map_err(Into::into);
    }
    let result = result
        .and_then(|()| fill(file.as_file_mut()))
        .and_then(|()| Ok(file.as_file().sync_all()?))
        .and_then(|()| file.persist(&target).map(drop).map_err(|error| error.error.into()));
    *unfinished() = None;
    result.with_context(place)
}

/// Fails now rather than after the work if `path` cannot be written.
pub(crate) fn check_writable(path: &Path) -> Result<()> {
    if is_special(path) {
        return Ok(());
    }
    let probe =
        temporary_beside(&destination(path)?).with_context(|| path.display().to_string())?;
    drop(probe);
    *unfinished() = None;
    Ok(())
}

/// Fails if `path` is one of the files that are read, which it would replace.
pub(crate) fn check_no_input(path: &Path, inputs: &[&Path]) -> Result<()> {
    let Ok(target) = fs::canonicalize(path) else { return Ok(()) };
    let is_same = |input: &&Path| fs::canonicalize(input).is_ok_and(|input| input == target);
    ensure!(
        !target.is_file() || !inputs.iter().any(is_same),
        "{}: it is an input, which the output would replace",
        path.display()
    );
    Ok(())
}

/// Writes `text` to standard output.
pub(crate) fn print(text: &str) -> Result<()> {
    write_stdout(|stdout| Ok(stdout.write_all(text.as_bytes())?))
}

/// Gives standard output to `fill`. A reader that has gone away is no error: it has what it wanted.
pub(crate) fn write_stdout(fill: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let mut stdout = BufWriter::new(io::stdout().lock());
    let result = fill(&mut stdout).and_then(|()| Ok(stdout.flush()?));
    match result {
        Err(error) if is_broken_pipe(&error) => Ok(()),
        result => result.context("standard output"),
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let io_error = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        let csv_error = cause.downcast_ref::<::csv::Error>().and_then(|error| match error.kind() {
            ::csv::ErrorKind::Io(error) => Some(error.kind()),
            _ => None,
        });
        io_error.or(csv_error) == Some(ErrorKind::BrokenPipe)
    })
}

/// Whether `path` is there and neither a file nor a folder: renaming onto a pipe or a device would
/// destroy it.
fn is_special(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir())
}

/// Where the file really goes: through a symbolic link, not in its place.
fn destination(path: &Path) -> Result<PathBuf> {
    let place = || path.display().to_string();
    ensure!(!path.is_dir(), "{}: a folder, not a file", place());
    if let Ok(metadata) = fs::metadata(path) {
        ensure!(!metadata.permissions().readonly(), "{}: it may only be read", place());
        return fs::canonicalize(path).with_context(place);
    }
    // A link to what is not there yet.
    match fs::read_link(path) {
        Ok(target) => Ok(path.parent().unwrap_or(Path::new("")).join(target)),
        Err(_) => Ok(path.to_path_buf()),
    }
}

fn temporary_beside(target: &Path) -> Result<NamedTempFile> {
    let folder = match target.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    if !folder.is_dir() {
        bail!("there is no folder {}", folder.display());
    }
    remove_on_signal();
    // Held while the file is made, so that no signal comes between its creation and its record.
    let mut unfinished = unfinished();
    let mut builder = tempfile::Builder::new();
    builder.prefix(".tidegate-").suffix(".partial");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // An ordinary file's permissions: the system takes the bits of the umask away.
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    let file = builder.tempfile_in(folder)?;
    *unfinished = Some(file.path().to_path_buf());
    Ok(file)
}

fn unfinished() -> std::sync::MutexGuard<'static, Option<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Makes an interrupt remove the unfinished file before it ends the program, with the exit status
/// of a shell: 130.
fn remove_on_signal() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let handler = || {
            // Held until the end, so that no other file is made after this one is removed.
            let mut unfinished = unfinished();
            if let Some(path) = unfinished.take() {
                let _ = fs::remove_file(path);
            }
            std::process::exit(130);
        };
        // Without the handler a signal ends the program all the same, only less tidily.
        let _ = ctrlc::set_handler(handler);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    fn fill_with(bytes: &'static [u8]) -> impl FnOnce(&mut File) -> Result<()> {
        |file| Ok(file.write_all(bytes)?)
    }

    #[test]
    fn a_failure_keeps_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.npz");
        write_file(&path, fill_with(b"first")).unwrap();
        let failing = |file: &mut File| {
            file.write_all(b"half of the sec")?;
            bail!("no space left on device")
        };
        let message = format!("{:#}", write_file(&path, failing).unwrap_err());
        assert!(message.ends_with("out.npz: no space left on device"), "{message}");
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(names(folder.path()), ["out.npz"]);
        write_file(&path, fill_with(b"second")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert_eq!(names(folder.path()), ["out.npz"]);
    }

    #[test]
    fn places_that_cannot_be_written_are_told_early() {
        let folder = tempfile::tempdir().unwrap();
        let message = |path: &Path| format!("{:#}", check_writable(path).unwrap_err());
        assert!(message(folder.path()).ends_with("a folder, not a file"));
        assert!(message(&folder.path().join("none/out.npz")).contains("there is no folder"));
        check_writable(&folder.path().join("out.npz")).unwrap();
        assert!(names(folder.path()).is_empty());
    }

    #[cfg(unix)]
    #[test]
    fn a_link_stays_a_link_and_a_device_a_device() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("real"), folder.path().join("link"));
        fs::write(&real, b"old").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        write_file(&link, fill_with(b"new")).unwrap();
        assert_eq!(fs::read(&real).unwrap(), b"new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        // Also a link to what is not there yet.
        let (coming, link) = (folder.path().join("coming"), folder.path().join("link to it"));
        std::os::unix::fs::symlink("coming", &link).unwrap();
        write_file(&link, fill_with(b"new")).unwrap();
        assert_eq!(fs::read(&coming).unwrap(), b"new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        write_file(Path::new("/dev/null"), fill_with(b"gone")).unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }

    #[cfg(unix)]
    #[test]
    fn a_new_file_has_the_permissions_of_any_new_file() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (ours, plain) = (folder.path().join("ours"), folder.path().join("plain"));
        write_file(&ours, fill_with(b"")).unwrap();
        fs::write(&plain, b"").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&ours), mode(&plain));
        // One that is replaced keeps its own; one that may only be read stays.
        fs::set_permissions(&ours, fs::Permissions::from_mode(0o600)).unwrap();
        write_file(&ours, fill_with(b"new")).unwrap();
        assert_eq!(mode(&ours) & 0o777, 0o600);
        fs::set_permissions(&ours, fs::Permissions::from_mode(0o444)).unwrap();
        let message = write_file(&ours, fill_with(b"newer")).unwrap_err().to_string();
        assert!(message.ends_with("it may only be read"), "{message}");
        assert_eq!(fs::read(&ours).unwrap(), b"new");
    }
}
