//! Where the shared library of a foreign engine is.
//!
//! What the user says wins, first in the run file, then in the environment: it is taken or it is an error,
//! never passed over. After that the Python environments are looked through, since most people have these
//! engines from pip, and then the folders where a system keeps libraries. Nothing is executed: an
//! environment is a folder with `lib/python3*/site-packages` in it.

use std::collections::BTreeSet;
use std::env;
use std::path::{Path, PathBuf};

/// A shared library and where people have it.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Name of the engine, for messages.
    pub engine: &'static str,
    /// File name without `lib` and what follows the first dot.
    pub stem: &'static str,
    /// Folder in `site-packages`.
    pub in_packages: &'static str,
    /// Environment variables that name the library or its folder, the first that is set counts.
    pub variables: &'static [&'static str],
    /// What to install.
    pub package: &'static str,
    /// Its key in a run file.
    pub key: &'static str,
    /// The first version that can be used.
    pub oldest: &'static str,
}

/// What the search reads of its surroundings; tests have some of their own.
pub struct Surroundings<'a> {
    /// Value of an environment variable.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// Folders where a system keeps shared libraries.
    pub system: &'a [PathBuf],
}

/// Looks for a library; gives its path.
///
/// # Errors
/// Where it was looked for, and what to do.
pub fn library(wanted: &Wanted, option: Option<&Path>) -> Result<PathBuf, String> {
    let system = ["/usr/local/lib", "/usr/lib", "/usr/lib64", "/opt/homebrew/lib"].map(PathBuf::from);
    let multiarch = format!("/usr/lib/{}-linux-gnu", env::consts::ARCH);
    let system: Vec<PathBuf> = system.into_iter().chain([multiarch.into()]).collect();
    search(wanted, option, &Surroundings { variable: &|name| env::var(name).ok(), system: &system })
}

/// As [`library`], in given surroundings.
///
/// # Errors
/// As [`library`].
pub fn search(
    wanted: &Wanted,
    option: Option<&Path>,
    surroundings: &Surroundings<'_>,
) -> Result<PathBuf, String> {
    let said = |name: &str| (surroundings.variable)(name).filter(|value| !value.is_empty());
    if let Some(path) = option {
        return explicit(wanted, path, wanted.key);
    }
    for name in wanted.variables {
        if let Some(value) = said(name) {
            return explicit(wanted, Path::new(&value), name);
        }
    }
    let mut prefixes: Vec<PathBuf> =
        ["VIRTUAL_ENV", "CONDA_PREFIX"].into_iter().filter_map(said).map(PathBuf::from).collect();
    for folder in said("PATH").iter().flat_map(env::split_paths) {
        if folder.join("python3").exists() {
            prefixes.extend(folder.parent().map(Path::to_path_buf));
        }
    }
    prefixes.extend(said("HOME").map(|home| PathBuf::from(home).join(".local")));
    let mut folders: Vec<PathBuf> = Vec::new();
    for prefix in &prefixes {
        folders.extend(packages(&prefix.join("lib")).iter().map(|p| p.join(wanted.in_packages)));
        folders.push(prefix.join("lib"));
    }
    folders.extend(said("LD_LIBRARY_PATH").iter().flat_map(env::split_paths));
    folders.extend(surroundings.system.iter().cloned());
    folders.iter().find_map(|folder| newest_in(folder, wanted.stem)).ok_or_else(|| {
        format!(
            "lib{} was found in no Python environment (VIRTUAL_ENV, CONDA_PREFIX, python3 on PATH) and in no \
             library folder; `pip install {}` and activate its environment, or give the path as {} in the run \
             file or in the environment variable {}",
            wanted.stem, wanted.package, wanted.key, wanted.variables[0]
        )
    })
}

/// What the user said: the library itself, its folder, or the prefix of a Python environment.
fn explicit(wanted: &Wanted, path: &Path, said_by: &str) -> Result<PathBuf, String> {
    if path.is_file() {
        return Ok(path.to_path_buf());
    }
    let mut folders = vec![path.to_path_buf(), path.join(wanted.in_packages)];
    folders.extend(packages(&path.join("lib")).iter().map(|p| p.join(wanted.in_packages)));
    folders.extend(["lib", "runtime/lib/intel64"].map(|inside| path.join(inside)));
    folders.iter().find_map(|folder| newest_in(folder, wanted.stem)).ok_or_else(|| {
        format!(
            "{said_by} = {}: there is no lib{}.so there; give the shared library, its folder, or a Python \
             environment that has {}",
            path.display(),
            wanted.stem,
            wanted.package
        )
    })
}

/// `lib/python3*/site-packages` and Debian's `dist-packages`, the newest Python first.
fn packages(lib: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(lib).into_iter().flatten().flatten();
    let pythons: BTreeSet<(usize, PathBuf)> = entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let minor = name.strip_prefix("python3")?.trim_start_matches('.');
            Some((minor.parse().unwrap_or(0), entry.path()))
        })
        .collect();
    let of = |(_, python): &(usize, PathBuf)| ["site-packages", "dist-packages"].map(|p| python.join(p));
    pythons.iter().rev().flat_map(of).collect()
}

/// The library of this stem in `folder`: the unversioned name where there is one, or else the highest
/// version (pip's wheels have only `libopenvino_c.so.2641`).
fn newest_in(folder: &Path, stem: &str) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?.flatten();
    let mut found: Vec<(Vec<u64>, PathBuf)> = entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let rest = name.strip_prefix("lib").unwrap_or(&name).strip_prefix(stem)?;
            let is_library = rest == ".dll" || rest.starts_with(".so") || rest.ends_with(".dylib");
            let clean = rest.starts_with('.') && is_library;
            clean.then(|| (version_in(rest), entry.path()))
        })
        .collect();
    found.sort();
    let plain = found.iter().find(|(version, _)| version.is_empty()).map(|(_, path)| path.clone());
    plain.or_else(|| found.pop().map(|(_, path)| path))
}

/// The numbers of a file name's end: `.so.1.32.0` has 1, 32, 0.
pub(super) fn version_in(rest: &str) -> Vec<u64> {
    rest.split('.').filter_map(|part| part.parse().ok()).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::collections::HashMap;
    use std::fs;

    use super::*;

    const WANTED: Wanted = Wanted {
        engine: "engine",
        stem: "thing",
        in_packages: "thing/libs",
        variables: &["CALIB8_THING", "OLD_THING"],
        package: "thing",
        key: "performance.libraries.thing",
        oldest: "1.0",
    };

    fn touch(path: &Path) -> PathBuf {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
        path.to_path_buf()
    }

    fn find(
        option: Option<&Path>,
        variables: &[(&str, &Path)],
        system: &[PathBuf],
    ) -> Result<PathBuf, String> {
        let variables: HashMap<&str, String> =
            variables.iter().map(|(name, path)| (*name, path.display().to_string())).collect();
        let variable = |name: &str| variables.get(name).cloned();
        search(&WANTED, option, &Surroundings { variable: &variable, system })
    }

    #[test]
    fn what_is_nearest_to_the_user_wins() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| touch(&root.path().join(path));
        let venv = at("venv/lib/python3.9/site-packages/thing/libs/libthing.so.1");
        let newer = at("venv/lib/python3.11/site-packages/thing/libs/libthing.so.2");
        let system = at("system/libthing.so");
        let other = at("other/libthing.so.3");
        let (venv_root, folders) = (root.path().join("venv"), [root.path().join("system")]);

        assert_eq!(find(None, &[], &folders).unwrap(), system);
        assert_eq!(find(None, &[("VIRTUAL_ENV", &venv_root)], &folders).unwrap(), newer);
        touch(&venv_root.join("bin/python3"));
        assert_eq!(find(None, &[("PATH", &venv_root.join("bin"))], &folders).unwrap(), newer);
        let variables = [("VIRTUAL_ENV", venv_root.as_path()), ("OLD_THING", other.parent().unwrap())];
        assert_eq!(find(None, &variables, &folders).unwrap(), other);
        assert_eq!(find(Some(&venv), &variables, &folders).unwrap(), venv);
        assert_eq!(find(Some(&venv_root), &[], &[]).unwrap(), newer, "an environment by its prefix");
    }

    #[test]
    fn the_highest_version_is_taken_where_none_is_plain() {
        let root = tempfile::tempdir().unwrap();
        for name in ["libthing.so.9", "libthing.so.10", "libthing_plugin.so", "libthingy.so.99", "thing.txt"]
        {
            touch(&root.path().join(name));
        }
        assert_eq!(newest_in(root.path(), "thing").unwrap().file_name().unwrap(), "libthing.so.10");
        touch(&root.path().join("libthing.so"));
        assert_eq!(newest_in(root.path(), "thing").unwrap().file_name().unwrap(), "libthing.so");
    }

    #[test]
    fn what_was_said_is_never_passed_over() {
        let root = tempfile::tempdir().unwrap();
        touch(&root.path().join("libthing.so"));
        let folders = [root.path().to_path_buf()];
        let said = find(None, &[("CALIB8_THING", Path::new("/nowhere"))], &folders).unwrap_err();
        assert!(said.starts_with("CALIB8_THING = /nowhere: there is no libthing.so there"), "{said}");
        let said = find(None, &[], &[]).unwrap_err();
        assert!(said.contains("pip install thing") && said.contains("performance.libraries.thing"), "{said}");
    }
}
