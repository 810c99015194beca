//! Where the user was when the terminal went away: kept in the workspace, and taken up once, by the next workbench
//! there. Who leaves by a key begins at the beginning the next time.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::app::{App, Level, Subject, Tab};
use super::tabs::projects::{self, Selected};
use crate::project::atomic;

/// Name of the file.
const FILE: &str = "left.json";

/// What is kept.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Left {
    /// Title of the tab in front.
    tab: String,
    /// Id of the project under the cursor.
    project: Option<String>,
    /// The run that was watched.
    watched: Option<PathBuf>,
    /// Title and directory of the run whose results were open.
    open: Option<(String, PathBuf)>,
}

/// Keeps where the user is. What fails is not told: there is nobody left to tell.
pub(super) fn keep(app: &App) {
    let project = match projects::selected(app) {
        Some(Selected::Project(entry) | Selected::Variant(entry, _)) => Some(entry.project.id.clone()),
        _ => None,
    };
    let open = app.subject.as_ref().map(|subject| (subject.title.clone(), subject.directory.clone()));
    let left = Left { tab: app.tab.title().into(), project, watched: app.optimize.watched.clone(), open };
    let root = app.workspace.root();
    if let (true, Ok(json)) = (root.is_dir(), serde_json::to_vec(&left)) {
        let _ = atomic::write(&root.join(FILE), &json);
    }
}

/// Goes back there, if something was kept; a file that can't be read is as none.
pub(super) fn take_up(app: &mut App) {
    let path = app.workspace.root().join(FILE);
    let Ok(json) = std::fs::read(&path) else { return };
    let _ = std::fs::remove_file(&path);
    let Ok(left) = serde_json::from_slice::<Left>(&json) else { return };
    let there = |directory: &Path| directory.is_dir();
    app.tab = Tab::ALL.into_iter().find(|tab| tab.title() == left.tab).unwrap_or(app.tab);
    app.projects.wanted = left.project;
    app.optimize.watched = left.watched.filter(|directory| there(directory));
    app.subject = left
        .open
        .filter(|(_, directory)| there(directory))
        .map(|(title, directory)| Subject { title, directory });
    app.say(Level::Done, "this is where you were when the terminal went away");
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::project::workspace::Workspace;
    use crate::tui::keymap::Keymap;
    use crate::tui::theme::{Theme, ThemeName};

    fn app(root: &Path) -> App {
        let theme = Theme::new(ThemeName::Default, false);
        App::new(Workspace::open(root).unwrap(), "host".into(), theme, Keymap::default())
    }

    #[test]
    fn the_next_workbench_is_where_the_lost_one_was_and_the_one_after_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let mut lost = app(folder.path());
        lost.tab = Tab::Report;
        lost.optimize.watched = Some(folder.path().join("gone"));
        let directory = folder.path().to_path_buf();
        lost.subject = Some(Subject { title: "shapes · int8".into(), directory });
        keep(&lost);
        let mut next = app(folder.path());
        take_up(&mut next);
        assert_eq!((next.tab, &next.subject), (Tab::Report, &lost.subject));
        assert_eq!(next.optimize.watched, None, "a run that is gone is not watched");
        let mut after = app(folder.path());
        take_up(&mut after);
        assert_eq!((after.tab, after.subject.is_none(), after.messages.len()), (Tab::Projects, true, 0));
    }

    #[test]
    fn what_cannot_be_read_or_written_is_no_obstacle() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), "{").unwrap();
        let mut next = app(folder.path());
        take_up(&mut next);
        assert_eq!(next.tab, Tab::Projects);
        let nowhere = folder.path().join("none");
        keep(&app(&nowhere));
        assert!(!nowhere.exists(), "looking makes nothing");
    }
}
