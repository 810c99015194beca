//! The tree of projects and variants as rows.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::tui::snapshot::{Snapshot, VariantEntry};

/// A row of the tree. It names what it stands for and holds nothing of it, so that it stays right
/// when the workspace changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Row {
    /// A project.
    Project {
        /// Its id.
        id: String,
        /// Whether its variants are folded away; `None` if it has none.
        folded: Option<bool>,
    },
    /// A variant.
    Variant {
        /// Id of its project.
        project: String,
        /// Its run directory.
        directory: PathBuf,
        /// Whether it is the last of its project.
        last: bool,
    },
    /// A folder that can't be read as a project.
    Unreadable {
        /// Name of the folder.
        id: String,
    },
}

impl Row {
    /// Whether both stand for the same thing.
    pub fn is(&self, other: &Row) -> bool {
        match (self, other) {
            (Row::Project { id: a, .. }, Row::Project { id: b, .. })
            | (Row::Unreadable { id: a }, Row::Unreadable { id: b }) => a == b,
            (Row::Variant { directory: a, .. }, Row::Variant { directory: b, .. }) => a == b,
            _ => false,
        }
    }

    /// What stands before its name.
    pub fn branch(&self) -> &'static str {
        match self {
            Row::Project { folded: None, .. } => "  ",
            Row::Project { folded: Some(true), .. } => "▸ ",
            Row::Project { folded: Some(false), .. } => "▾ ",
            Row::Variant { last: false, .. } => "├─ ",
            Row::Variant { last: true, .. } => "└─ ",
            Row::Unreadable { .. } => "✗ ",
        }
    }
}

/// The rows that are seen: what is not folded away and holds all of `words`. A project holds those of its model and
/// dataset too, and is seen with the variants that hold them, or with all if it holds them itself.
pub fn rows(snapshot: &Snapshot, folded: &BTreeSet<String>, words: &str) -> Vec<Row> {
    let words = words.to_lowercase();
    let holds = |text: &str| {
        let text = text.to_lowercase();
        words.split_whitespace().all(|word| text.contains(word))
    };
    let mut rows = Vec::new();
    for entry in &snapshot.projects {
        let id = entry.project.id.clone();
        let definition = &entry.project.definition;
        let own = [&definition.model, &definition.dataset.path].map(|path| path.display().to_string());
        let whole = holds(&format!("{} {} {}", entry.project.name, own[0], own[1]));
        let fitting: Vec<&VariantEntry> = entry
            .variants
            .iter()
            .filter(|variant| whole || holds(&format!("{} {}", entry.project.name, variant.variant.name)))
            .collect();
        if !whole && fitting.is_empty() {
            continue;
        }
        let closed = folded.contains(&id);
        rows.push(Row::Project { id: id.clone(), folded: (!entry.variants.is_empty()).then_some(closed) });
        let shown = if closed { &[][..] } else { &fitting[..] };
        let count = shown.len();
        rows.extend(shown.iter().enumerate().map(|(at, variant)| Row::Variant {
            project: id.clone(),
            directory: variant.variant.path.clone(),
            last: at + 1 == count,
        }));
    }
    let unreadable = snapshot.unreadable.iter().filter(|entry| holds(&entry.id));
    rows.extend(unreadable.map(|entry| Row::Unreadable { id: entry.id.clone() }));
    rows
}
