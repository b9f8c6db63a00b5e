//! A Python with PyTorch: found, or made in the target folder.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::project::{in_ci, root, run, target};

/// What fixtures/generate.py asks for.
const PYTORCH: &str = "2.13.0";

/// Prints the version of PyTorch, and fails without any of the packages of fixtures/requirements.txt.
const PROBE: &str = "import expecttest, mypy, numpy, pytest, safetensors.numpy, torch; print(torch.__version__.split('+')[0])";

/// A Python that has the packages of fixtures/requirements.txt.
pub(crate) struct Python(PathBuf);

/// Why there is none.
enum Missing {
    /// This machine has no Python that can make a virtual environment.
    Python(String),
    /// There is one, and something else went wrong.
    Other(String),
}

impl Missing {
    fn reason(self) -> String {
        match self {
            Missing::Python(reason) | Missing::Other(reason) => reason,
        }
    }
}

/// A Python with PyTorch; none, said loudly, if this machine has no Python. In CI that is an error.
///
/// # Errors
/// If PyTorch cannot be installed, or `TIDEGATE_PYTHON` does not have it.
pub(crate) fn want() -> Result<Option<Python>, String> {
    match find_or_make() {
        Ok(python) => Ok(Some(python)),
        Err(Missing::Python(reason)) if !in_ci() => {
            eprintln!("xtask: WARNING: the fixtures will NOT be checked against PyTorch: {reason}");
            Ok(None)
        }
        Err(missing) => Err(missing.reason()),
    }
}

/// A Python with PyTorch.
///
/// # Errors
/// If there is none and none can be made.
pub(crate) fn need() -> Result<Python, String> {
    find_or_make().map_err(Missing::reason)
}

impl Python {
    /// Runs fixtures/generate.py.
    ///
    /// # Errors
    /// If it fails, which it says itself on standard error.
    pub(crate) fn fixtures(&self, arguments: &[&str]) -> Result<(), String> {
        let mut command = Command::new(&self.0);
        // No __pycache__ in the checkout; lines as they come, also in a pipe.
        command.args(["-B", "-u"]).arg("fixtures/generate.py").args(arguments).current_dir(root());
        run(&mut command)
    }

    /// Builds the Python package as a user would, into a folder of its own, and runs its tests.
    ///
    /// # Errors
    /// If it cannot be built, or a test fails.
    pub(crate) fn package(&self) -> Result<(), String> {
        let folder = target().join("python-package");
        let mut install = Command::new(&self.0);
        install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
        install.args(["--no-deps", "--upgrade", "--target"]).arg(&folder).arg(".");
        run(install.current_dir(root()).stdin(Stdio::null()))?;
        let mut tests = Command::new(&self.0);
        tests.args(["-B", "-m", "pytest", "-q", "-p", "no:cacheprovider", "python/tests"]);
        run(tests.current_dir(root()).env("PYTHONPATH", folder).stdin(Stdio::null()))
    }
}

fn find_or_make() -> Result<Python, Missing> {
    if let Some(given) = std::env::var_os("TIDEGATE_PYTHON") {
        let given = PathBuf::from(given);
        return match pytorch(&given) {
            Some(version) if version == PYTORCH => Ok(Python(given)),
            found => Err(Missing::Other(format!(
                "TIDEGATE_PYTHON={} must have the packages of fixtures/requirements.txt with PyTorch {PYTORCH}, has {}",
                given.display(),
                found.as_deref().unwrap_or("not all of them")
            ))),
        };
    }
    let folder = target().join("python");
    let python = program(&folder);
    if !works(&python) {
        make_environment(&folder)?;
    }
    if pytorch(&python).as_deref() != Some(PYTORCH) {
        install(&python)?;
    }
    Ok(Python(python))
}

/// The Python of an environment.
fn program(folder: &Path) -> PathBuf {
    folder.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" })
}

/// A Python in the target folder with the packages of the file `requirements`; both are brought up to
/// date first.
///
/// # Errors
/// If there is no Python, or the packages cannot be installed.
pub(crate) fn environment(name: &str, requirements: &str) -> Result<PathBuf, String> {
    let folder = target().join(name);
    let python = program(&folder);
    if !works(&python) {
        make_environment(&folder).map_err(Missing::reason)?;
    }
    pip_install(&python, requirements)?;
    Ok(python)
}

fn pip_install(python: &Path, requirements: &str) -> Result<(), String> {
    let mut pip = Command::new(python);
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "-r",
        requirements,
    ]);
    run(pip.current_dir(root()).stdin(Stdio::null()))
}

fn make_environment(folder: &Path) -> Result<(), Missing> {
    let names = ["python3", "python"];
    let Some(system) = names.into_iter().find(|name| works(Path::new(name))) else {
        return Err(Missing::Python(format!("no Python found (looked for {})", names.join(", "))));
    };
    // --clear: what an interrupted run left there would be taken for whole.
    run(Command::new(system).args(["-m", "venv", "--clear"]).arg(folder)).map_err(|reason| {
        // Half an environment would pass for a whole one next time.
        let _ = std::fs::remove_dir_all(folder);
        Missing::Python(format!("{reason} (Debian and Ubuntu: install the package python3-venv)"))
    })
}

fn install(python: &Path) -> Result<(), Missing> {
    println!(
        "xtask: installing PyTorch {PYTORCH} into {} (once)",
        target().join("python").display()
    );
    pip_install(python, "fixtures/requirements.txt").map_err(Missing::Other)?;
    match pytorch(python) {
        Some(version) if version == PYTORCH => Ok(()),
        found => Err(Missing::Other(format!(
            "fixtures/requirements.txt was installed, and PyTorch {PYTORCH} is not there but {found:?}"
        ))),
    }
}

/// Whether this Python runs and is not too old for a virtual environment.
fn works(python: &Path) -> bool {
    let mut command = Command::new(python);
    command.args(["-c", "import sys, venv; sys.exit(sys.version_info < (3, 10))"]);
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// PyTorch's version, if all packages are there.
fn pytorch(python: &Path) -> Option<String> {
    let output = Command::new(python).args(["-c", PROBE]).stdin(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
