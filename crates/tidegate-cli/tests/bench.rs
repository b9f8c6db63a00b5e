//! `tidegate bench`.

mod common;

use common::Folder;

#[test]
fn a_row_is_an_object_with_the_promised_keys() {
    let text = Folder::new().run("bench --filter gru-step-h8 --json").ok().stdout;
    let object: serde_json::Value = serde_json::from_str(&text).unwrap();
    for key in ["name", "cell", "I", "H", "L", "D", "T", "B", "threads", "mode"] {
        assert!(object.get(key).is_some(), "{key}: {text}");
    }
    for key in ["us", "gflops", "limit_us", "percent"] {
        assert!(object[key].as_f64().unwrap() > 0.0, "{key}: {text}");
    }
}

#[test]
fn a_row_that_is_not_there_is_one_line() {
    let outcome = Folder::new().run("bench --filter gru-leap");
    assert_eq!(outcome.code, 1);
    assert_eq!(outcome.stdout, "");
    let message = "no row of the grid has `gru-leap` in its name";
    assert!(outcome.stderr.contains(message), "{}", outcome.stderr);
    assert_eq!(outcome.stderr.lines().count(), 1, "{}", outcome.stderr);
}
