//! Lists the files of the bundled example, so that an installed binary carries them with it.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join("fixtures/shapes");
    let mut names = Vec::new();
    list(&root, Path::new(""), &mut names)?;
    names.sort();
    let mut code = String::from("&[\n");
    for name in names {
        // Writing to a string does not fail.
        let _ = writeln!(code, "({name:?}, include_bytes!({:?})),", root.join(&name));
    }
    code.push(']');
    writeln!(io::stdout(), "cargo::rerun-if-changed=fixtures/shapes")?;
    fs::write(PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("example.rs"), code)
}

fn list(root: &Path, folder: &Path, names: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(root.join(folder))? {
        let entry = entry?;
        let name = folder.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            list(root, &name, names)?;
        } else {
            names.push(name);
        }
    }
    Ok(())
}
