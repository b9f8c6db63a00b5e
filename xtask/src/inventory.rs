//! Compares UNSAFE.md with the code.

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::Path;

    use crate::project::root;

    /// What is `unsafe` in a source text, comments aside.
    fn count(source: &str) -> usize {
        let code = source.lines().map(|line| line.split("//").next().unwrap_or_default());
        let kinds = ["unsafe {", "unsafe impl", "unsafe fn", "unsafe trait"];
        code.map(|line| kinds.iter().map(|kind| line.matches(kind).count()).sum::<usize>()).sum()
    }

    fn walk(folder: &Path, found: &mut BTreeMap<String, usize>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|suffix| suffix == "rs") {
                let uses = count(&fs::read_to_string(&path).unwrap());
                if uses > 0 {
                    let name = path.strip_prefix(root()).unwrap();
                    found.insert(name.to_str().unwrap().replace('\\', "/"), uses);
                }
            }
        }
    }

    #[test]
    fn the_inventory_lists_every_unsafe_block() {
        let mut found = BTreeMap::new();
        for member in fs::read_dir(root().join("crates")).unwrap() {
            walk(&member.unwrap().path().join("src"), &mut found);
        }
        let table = fs::read_to_string(root().join("UNSAFE.md")).unwrap();
        let rows = table.lines().filter_map(|line| line.strip_prefix("| `crates/"));
        let listed: BTreeMap<String, usize> = rows
            .map(|row| {
                let cells: Vec<&str> = row.split('|').map(str::trim).collect();
                (format!("crates/{}", cells[0].trim_end_matches('`')), cells[1].parse().unwrap())
            })
            .collect();
        assert_eq!(listed, found, "UNSAFE.md on the left, the code on the right");
    }

    #[test]
    fn comments_do_not_count() {
        assert_eq!(count("unsafe { a() } // unsafe { b() }\nunsafe impl Send for A {}\n"), 2);
        assert_eq!(count("/// unsafe fn\n#![deny(unsafe_code)]\n"), 0);
    }
}
