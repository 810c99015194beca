//! Holds the rules of the house that the compiler can't: the order of the rooms, where `unsafe` may
//! be, how long a file may get, and that nothing points into a particular machine.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The rooms in the order in which data moves; each may use those before it.
const ROOMS: [&str; 11] = [
    "kernels", "model", "dataset", "engine", "measure", "report", "quantize", "project", "run", "cli", "tui",
];
/// Files beside the rooms. `progress` stands above all rooms: they may all use it, it uses none.
const ROOT_FILES: [&str; 3] = ["lib.rs", "main.rs", "progress.rs"];
/// Paths, from `src`, under which `unsafe` may stand: the kernels, and the loading of foreign engines.
const UNSAFE_HOMES: [&str; 2] = ["kernels/", "engine/foreign"];
const LONGEST_FILE: usize = 700;

#[test]
fn rooms_use_only_the_rooms_above_them() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let Some(room) = room_of(&path).filter(|_| !holds_only_tests(&path)) else { continue };
        for (line, used) in crate_paths(&code_of(without_tests(&text)), depth_of(&path)) {
            if !may_use(room, &used) {
                wrong.push(format!("src/{}:{line}: {room} uses crate::{used}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "the order of the rooms is {ROOMS:?}:\n{}", wrong.join("\n"));
}

#[test]
fn every_room_on_disk_has_its_place() {
    for entry in std::fs::read_dir(root().join("src")).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let known = if entry.path().is_dir() { &ROOMS[..] } else { &ROOT_FILES[..] };
        assert!(known.contains(&name.as_str()), "src/{name} has no place in the order of the rooms");
    }
}

#[test]
fn unsafe_stays_at_home() {
    let wrong: Vec<String> = sources()
        .into_iter()
        .filter(|(path, _)| !UNSAFE_HOMES.iter().any(|home| path.to_str().unwrap().starts_with(home)))
        .filter(|(_, text)| words(&code_of(text)).any(|word| word == "unsafe" || word == "unsafe_code"))
        .map(|(path, _)| path.display().to_string())
        .collect();
    assert!(wrong.is_empty(), "unsafe outside of {UNSAFE_HOMES:?}: {wrong:?}");
}

#[test]
fn nothing_here_speaks_to_the_network() {
    let wrong: Vec<String> = sources()
        .into_iter()
        .filter(|(_, text)| {
            ["std::net", "core::net", "tokio::net"].iter().any(|path| code_of(text).contains(path))
        })
        .map(|(path, _)| path.display().to_string())
        .collect();
    assert!(wrong.is_empty(), "no sockets: {wrong:?}");
    // Nor do the crates that are built in: these are what others speak through.
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let speaks = ["hyper", "reqwest", "ureq", "curl", "socket2", "rustls", "openssl", "native-tls", "h2"];
    let found: Vec<_> = speaks.iter().filter(|name| lock.contains(&format!("name = \"{name}\"\n"))).collect();
    assert!(found.is_empty(), "crates that speak to the network: {found:?}");
}

#[test]
fn temporary_files_name_their_folder() {
    // The folder that the crate takes by itself is turned elsewhere once kitty was asked for: viuer needs that.
    let unnamed = ["tempfile::tempdir()", "tempfile::tempfile()", "NamedTempFile::new()"];
    for (path, text) in sources().iter().filter(|(path, _)| !holds_only_tests(path)) {
        let code = code_of(without_tests(text));
        for call in unnamed {
            assert!(!code.contains(call), "src/{}: {call}", path.display());
        }
    }
}

#[test]
fn files_stay_short() {
    for (path, text) in sources() {
        let lines = text.lines().count();
        assert!(lines <= LONGEST_FILE, "src/{}: {lines} lines, at most {LONGEST_FILE}", path.display());
    }
}

#[test]
fn nothing_points_into_a_particular_machine() {
    // Put together here, so that this file does not find itself.
    let machines = ["work", "farm", "root"].map(|folder| format!("/{folder}/"));
    let mut wrong = Vec::new();
    for path in repository_files() {
        let name = path.to_str().unwrap();
        let kinds = [".rs", ".md", ".yaml", ".toml", ".py"];
        if name != ".ci/run" && !kinds.iter().any(|kind| name.ends_with(kind)) {
            continue;
        }
        // A file that was deleted and not yet committed is still listed.
        let Ok(text) = std::fs::read_to_string(root().join(&path)) else { continue };
        for (number, line) in text.lines().enumerate() {
            if machines.iter().any(|machine| holds_absolute(line, machine)) {
                wrong.push(format!("{name}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "paths of a particular machine:\n{}", wrong.join("\n"));
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files of `src` with their text; paths from there.
fn sources() -> Vec<(PathBuf, String)> {
    let src = root().join("src");
    let mut found = Vec::new();
    walk(&src, &mut found);
    let rust = found.into_iter().filter(|path| path.extension().is_some_and(|e| e == "rs"));
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        (path.strip_prefix(&src).unwrap().to_path_buf(), text)
    };
    let sources: Vec<_> = rust.map(read).collect();
    assert!(sources.len() > ROOT_FILES.len(), "no sources in {}", src.display());
    sources
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { walk(&path, found) } else { found.push(path) }
    }
}

/// What git knows or would add; without git, the files of the folders that hold text.
fn repository_files() -> Vec<PathBuf> {
    let listed = std::process::Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output();
    if let Ok(output) = listed
        && output.status.success()
    {
        return String::from_utf8(output.stdout).unwrap().lines().map(PathBuf::from).collect();
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            found.push(path);
        } else if ["src", "tests", "benches", "config", "fixtures"].iter().any(|name| path.ends_with(name)) {
            walk(&path, &mut found);
        }
    }
    found.into_iter().map(|path| path.strip_prefix(root()).unwrap().to_path_buf()).collect()
}

/// Whether a line names something under an absolute folder: `/tmp/x` and `="/tmp/x"`, but not `a/tmp/x`.
fn holds_absolute(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(at, _)| {
        !line[..at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '}' | '*'))
    })
}

/// The room of a file, given its path from `src`; `None` for `lib.rs` and `main.rs`, which may use
/// everything.
fn room_of(path: &Path) -> Option<&str> {
    let first = path.iter().next()?.to_str()?;
    match first {
        "lib.rs" | "main.rs" => None,
        file => Some(file.strip_suffix(".rs").unwrap_or(file)),
    }
}

/// Whether a file is a module of tests, which may use any room.
fn holds_only_tests(path: &Path) -> bool {
    path.iter().any(|part| part == "tests" || part == "tests.rs")
}

/// How many `super::` lead from the module of a file to the root of the crate.
fn depth_of(path: &Path) -> usize {
    let parts = path.iter().count();
    if path.ends_with("mod.rs") { parts - 1 } else { parts }
}

fn may_use(room: &str, used: &str) -> bool {
    let place = |name: &str| ROOMS.iter().position(|r| *r == name);
    match (place(room), place(used)) {
        (Some(room), Some(used)) => used <= room,
        (_, None) => used == "progress",
        (None, Some(_)) => false,
    }
}

/// The text up to its tests, which may use any room. They stand at the end of a file.
fn without_tests(text: &str) -> &str {
    let mut end = 0;
    for line in text.split_inclusive('\n') {
        // A lone attribute on a `mod name;` or `use` line in the middle does not begin the tests.
        let rest = text[end + line.len()..].lines().map(str::trim).find(|l| !l.starts_with("#["));
        if line.trim() == "#[cfg(test)]" && rest.is_some_and(|l| l.starts_with("mod ") && l.ends_with('{')) {
            return &text[..end];
        }
        end += line.len();
    }
    text
}

/// The text with comments and the insides of strings blanked out; lines stay where they are.
fn code_of(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = token_to_blank(&chars, at).unwrap_or(at);
        if end == at {
            code.push(chars[at]);
            at += 1;
        } else {
            code.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    code
}

/// Where the comment, string or character that begins at `at` ends, if one does.
fn token_to_blank(chars: &[char], at: usize) -> Option<usize> {
    let is = |i: usize, c: char| chars.get(i) == Some(&c);
    let find = |from: usize, done: &dyn Fn(usize) -> bool| {
        (from..chars.len()).find(|i| done(*i)).unwrap_or(chars.len())
    };
    match chars[at] {
        '/' if is(at + 1, '/') => Some(find(at, &|i| is(i, '\n'))),
        '/' if is(at + 1, '*') => {
            let (mut depth, mut i) = (0, at);
            while i < chars.len() {
                if is(i, '/') && is(i + 1, '*') {
                    depth += 1;
                    i += 2;
                } else if is(i, '*') && is(i + 1, '/') {
                    depth -= 1;
                    i += 2;
                    if depth == 0 {
                        break;
                    }
                } else {
                    i += 1;
                }
            }
            Some(i.min(chars.len()))
        }
        '"' => Some(end_of_quoted(chars, at, '"')),
        // A character, unless it is a lifetime such as 'a.
        '\'' if is(at + 1, '\\') || is(at + 2, '\'') => Some(end_of_quoted(chars, at, '\'')),
        'r' if !at.checked_sub(1).is_some_and(|before| is_word(chars[before]) && chars[before] != 'b') => {
            let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
            is(at + 1 + hashes, '"').then(|| {
                let closes = |i: usize| is(i, '"') && (1..=hashes).all(|h| is(i + h, '#'));
                (find(at + 2 + hashes, &closes) + 1 + hashes).min(chars.len())
            })
        }
        _ => None,
    }
}

fn end_of_quoted(chars: &[char], at: usize, quote: char) -> usize {
    let mut i = at + 1;
    while i < chars.len() && chars[i] != quote {
        i += if chars[i] == '\\' { 2 } else { 1 };
    }
    (i + 1).min(chars.len())
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c| !is_word(c)).filter(|word| !word.is_empty())
}

/// Line and first name of every path from the root of the crate: `crate::x`, each of
/// `crate::{x, y::z}`, and `super::super::x` where so many `super` lead to the root.
fn crate_paths(code: &str, depth: usize) -> Vec<(usize, String)> {
    let supers = "super::".repeat(depth);
    let mut found = Vec::new();
    for root in ["crate::", supers.as_str()] {
        for (at, _) in code.match_indices(root) {
            let before = &code[..at];
            if before.ends_with(|c: char| is_word(c) || c == ':') {
                continue;
            }
            let line = before.matches('\n').count() + 1;
            let names = first_names(&code[at + root.len()..]);
            // A longer chain of `super` would leave the crate; a `self` is the root itself.
            found.extend(names.into_iter().filter(|n| n != "self").map(|name| (line, name)));
        }
    }
    found
}

/// The first name of a path, or of each path in braces.
fn first_names(path: &str) -> BTreeSet<String> {
    let name = |text: &str| text.trim_start().chars().take_while(|c| is_word(*c)).collect::<String>();
    let Some(inside) = path.trim_start().strip_prefix('{') else { return BTreeSet::from([name(path)]) };
    let mut names = BTreeSet::new();
    let (mut depth, mut start) = (0, 0);
    for (at, c) in inside.char_indices() {
        match c {
            '{' => depth += 1,
            '}' | ',' if depth == 0 => {
                names.insert(name(&inside[start..at]));
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    names.remove("");
    names
}

/// The reader of the house rules must itself see what it is meant to see.
mod reader {
    use super::*;

    fn used(code: &str, depth: usize) -> Vec<String> {
        crate_paths(&code_of(without_tests(code)), depth).into_iter().map(|(_, name)| name).collect()
    }

    #[test]
    fn finds_every_way_to_name_a_room() {
        assert_eq!(used("use crate::run::plan;", 2), ["run"]);
        assert_eq!(
            used("use crate::{\n    cli::{a, b},\n    model::Model, progress,\n};", 2),
            ["cli", "model", "progress"]
        );
        assert_eq!(used("fn f() -> crate::engine::Value { todo() }", 2), ["engine"]);
        assert_eq!(used("pub(in crate::report) fn f() {}", 2), ["report"]);
        assert_eq!(used("use super::super::tui::App;", 2), ["tui"]);
        assert_eq!(used("use super::tui::App;", 2), [""; 0], "that is a module of its own room");
        assert_eq!(used("use super::tui::App;", 1), ["tui"]);
    }

    #[test]
    fn does_not_trip_over_comments_strings_and_tests() {
        assert_eq!(used("//! [`crate::run`]\n/* crate::cli /* nested */ crate::tui */", 2), [""; 0]);
        assert_eq!(
            used(
                r####"let s = ("crate::run \" crate::cli", r#"crate::"tui"#, '"', 'a'); crate::model"####,
                2
            ),
            ["model"]
        );
        assert_eq!(used("fn f<'a>(x: &'a str) { crate::engine::g() }", 2), ["engine"]);
        assert_eq!(used("x\n#[cfg(test)]\n#[allow(a)]\nmod tests {\n    use crate::cli;\n}\n", 2), [""; 0]);
        assert_eq!(used("#[cfg(test)]\nmod fake;\nuse crate::cli;\n", 2), ["cli"]);
        assert_eq!(used("use mycrate::cli; use $crate::model;", 2), ["model"]);
    }

    #[test]
    fn knows_above_from_below() {
        assert!(may_use("engine", "kernels") && may_use("engine", "engine") && may_use("engine", "progress"));
        assert!(!may_use("engine", "measure") && !may_use("kernels", "model"));
        assert!(!may_use("progress", "model") && !may_use("engine", "Session"));
        assert_eq!(room_of(Path::new("engine/builtin/session.rs")), Some("engine"));
        assert_eq!(room_of(Path::new("progress.rs")), Some("progress"));
        assert_eq!(room_of(Path::new("main.rs")), None);
        assert!(
            holds_only_tests(Path::new("model/tests.rs")) && holds_only_tests(Path::new("model/tests/a.rs"))
        );
        assert!(!holds_only_tests(Path::new("model/contests.rs")));
        assert_eq!(
            ["engine/mod.rs", "engine/value.rs", "engine/builtin/mod.rs"].map(|p| depth_of(Path::new(p))),
            [1, 2, 2]
        );
    }

    #[test]
    fn absolute_paths_only() {
        for line in ["/tmp/x", "path: /tmp/x", "\"/tmp/x\"", "(/tmp/x)"] {
            assert!(holds_absolute(line, "/tmp/"), "{line}");
        }
        for line in ["a/tmp/x", "../tmp/x", "/tmpx/", "{dir}/tmp/"] {
            assert!(!holds_absolute(line, "/tmp/"), "{line}");
        }
    }
}
