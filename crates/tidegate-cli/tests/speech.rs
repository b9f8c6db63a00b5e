//! Three trained models on a minute of real speech: within the default tolerance of PyTorch at
//! every element.

mod common;

use std::path::PathBuf;

use common::*;

/// The folder beside the checkout that holds the recordings; they are not part of the project.
fn speech() -> Option<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/real/speech");
    if folder.is_dir() {
        return Some(folder);
    }
    let message = format!("real speech is missing: {}", folder.display());
    assert!(std::env::var_os("CI").is_none(), "{message}");
    eprintln!("SKIPPED: {message}");
    None
}

#[test]
fn trained_models_on_real_speech_agree_with_pytorch() {
    let Some(folder) = speech() else { return };
    for model in ["vad_bilstm", "vad_gru", "vad_lstm_proj"] {
        for ending in ["pt", "safetensors"] {
            let file = |name: String| folder.join(name).into_os_string();
            let args = [
                "verify".into(),
                file(format!("{model}.{ending}")),
                file("features.npy".into()),
                file(format!("{model}_expected.npz")),
            ];
            let stdout = outcome(&mut Folder::new().command(&args)).ok().stdout;
            assert!(stdout.contains("[5998, 40]") && stdout.contains("verified"), "{stdout}");
            println!("{stdout}");
        }
    }
}
