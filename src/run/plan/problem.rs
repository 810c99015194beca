//! What is wrong with a run file, shown at its place: file, line, column, the line itself with a
//! caret, what was expected, and what to do.

use std::fmt;
use std::path::PathBuf;

use super::node::{Node, Segment, Target, locate};
use super::overrides::Override;

/// Something wrong at a path of the run file.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    path: Vec<Segment>,
    target: Target,
    what: String,
    expected: Option<String>,
    hint: Option<String>,
}

impl Problem {
    /// A problem of the whole file until [`Problem::at`] says where.
    pub fn new(what: impl Into<String>) -> Self {
        Problem { path: Vec::new(), target: Target::Value, what: what.into(), expected: None, hint: None }
    }

    /// Where it is.
    pub fn at(mut self, path: Vec<Segment>, target: Target) -> Self {
        self.path = path;
        self.target = target;
        self
    }

    /// What should have stood there.
    pub fn expected(mut self, expected: impl Into<String>) -> Self {
        self.expected = Some(expected.into());
        self
    }

    /// What to do.
    pub fn hint(self, hint: impl Into<String>) -> Self {
        self.hint_option(Some(hint.into()))
    }

    /// What to do, if anything is known.
    pub fn hint_option(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }
}

/// A run file that can't be used, with all that is wrong with it.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanError {
    file: PathBuf,
    findings: Vec<Finding>,
}

#[derive(Debug, Clone, PartialEq)]
struct Finding {
    place: Place,
    what: String,
    expected: Option<String>,
    hint: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
enum Place {
    /// The file as a whole.
    File,
    /// A spot of it: line and column from 1, `width` characters wide, in a line of text.
    Spot { line: usize, column: usize, width: usize, text: String },
    /// An argument of the command line.
    Argument(String),
}

/// What a [`Problem`] is shown in.
pub struct Source<'a> {
    /// The run file as the user named it.
    pub file: PathBuf,
    /// Its text.
    pub text: &'a str,
    /// Its tree before overrides.
    pub node: &'a Node,
    /// The `--set` arguments that were laid over it.
    pub overrides: &'a [Override],
}

impl Source<'_> {
    /// All problems at their places.
    pub fn error(self, problems: Vec<Problem>) -> PlanError {
        let findings = problems
            .into_iter()
            .map(|problem| Finding {
                place: self.place(&problem.path, problem.target),
                what: problem.what,
                expected: problem.expected,
                hint: problem.hint,
            })
            .collect();
        PlanError { file: self.file, findings }
    }

    fn place(&self, path: &[Segment], target: Target) -> Place {
        let set_here = self.overrides.iter().rev().find(|set| path.starts_with(&set.path));
        let absent = self.node.get(path).is_none();
        let set_below = || {
            self.overrides.iter().rev().find(|set| absent && !path.is_empty() && set.path.starts_with(path))
        };
        if let Some(set) = set_here.or_else(set_below) {
            return Place::Argument(format!("--set {}", set.argument));
        }
        // A list or mapping may begin lines below its key; the key is what the eye looks for.
        let target = match (target, self.node.get(path)) {
            (Target::Value, Some(Node::Map(_) | Node::List(_) | Node::Null))
                if matches!(path.last(), Some(Segment::Key(_))) =>
            {
                Target::Key(0)
            }
            (target, _) => target,
        };
        match (locate(self.text, path, target), path.split_last()) {
            (Some((line, column)), _) => spot(self.text, line, column, target),
            (None, Some((_, parent))) => self.place(parent, Target::Value),
            (None, None) => Place::File,
        }
    }
}

impl PlanError {
    /// An error of the file as a whole.
    pub fn file(file: impl Into<PathBuf>, what: impl Into<String>, hint: Option<&str>) -> Self {
        let finding =
            Finding { place: Place::File, what: what.into(), expected: None, hint: hint.map(str::to_string) };
        PlanError { file: file.into(), findings: vec![finding] }
    }

    /// Problems of a plan that was never text; `origin` stands where the file's name would.
    pub fn without_text(origin: impl Into<PathBuf>, problems: Vec<Problem>) -> Self {
        let finding =
            |p: Problem| Finding { place: Place::File, what: p.what, expected: p.expected, hint: p.hint };
        PlanError { file: origin.into(), findings: problems.into_iter().map(finding).collect() }
    }

    /// An error at a spot that is known by line and column, both from 1.
    pub fn spot(file: impl Into<PathBuf>, text: &str, line: usize, column: usize, problem: Problem) -> Self {
        let place = spot(text, line, column, Target::Value);
        let finding = Finding { place, what: problem.what, expected: problem.expected, hint: problem.hint };
        PlanError { file: file.into(), findings: vec![finding] }
    }

    /// An error of an argument of the command line.
    pub fn argument(file: impl Into<PathBuf>, argument: impl Into<String>, problem: Problem) -> Self {
        let place = Place::Argument(argument.into());
        let finding = Finding { place, what: problem.what, expected: problem.expected, hint: problem.hint };
        PlanError { file: file.into(), findings: vec![finding] }
    }
}

impl std::error::Error for PlanError {}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        for (index, finding) in self.findings.iter().enumerate() {
            if index > 0 {
                f.write_str("\n\n")?;
            }
            finding.write(f, &self.file.display().to_string())?;
        }
        Ok(())
    }
}

impl Finding {
    fn write(&self, f: &mut fmt::Formatter, file: &str) -> fmt::Result {
        match &self.place {
            Place::File => write!(f, "{file}: {}", self.what)?,
            Place::Argument(argument) => write!(f, "{argument}: {}", self.what)?,
            Place::Spot { line, column, width, text } => {
                write!(f, "{file}:{line}:{column}: {}", self.what)?;
                let (shown, pad) = window(text, *column);
                let number = line.to_string();
                let carets = "^".repeat((*width).clamp(1, shown.chars().count().max(pad + 1) - pad));
                write!(f, "\n  {number} | {shown}")?;
                write!(f, "\n  {} | {}{carets}", " ".repeat(number.len()), " ".repeat(pad))?;
            }
        }
        if let Some(expected) = &self.expected {
            write!(f, "\n  expected: {expected}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

/// The part of a line to show, control characters and tabs as one space each, and how many
/// characters of it stand before `column`. Long lines are cut around the spot.
fn window(line: &str, column: usize) -> (String, usize) {
    const WIDTH: usize = 100;
    let characters: Vec<char> = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let pad = (column - 1).min(characters.len());
    let start = if characters.len() > WIDTH { pad.saturating_sub(WIDTH / 2) } else { 0 };
    let end = characters.len().min(start + WIDTH);
    (characters[start..end].iter().collect(), pad - start)
}

fn spot(text: &str, line: usize, column: usize, target: Target) -> Place {
    let (line, column) = (line.max(1), column.max(1));
    let text = text.lines().nth(line - 1).unwrap_or_default().to_string();
    let rest: Vec<char> = text.chars().skip(column - 1).collect();
    Place::Spot { line, column, width: token_width(&rest, target), text }
}

/// How many characters the key or plain value at the start of `rest` takes.
fn token_width(rest: &[char], target: Target) -> usize {
    let quote = rest.first().copied().filter(|c| matches!(c, '"' | '\''));
    if let Some(quote) = quote {
        return rest.iter().skip(1).position(|&c| c == quote).map_or(1, |end| end + 2);
    }
    let ends = |i: usize| match (target, rest[i]) {
        (Target::Key(_), ':') | (Target::Value, ',' | ']' | '}') => true,
        (Target::Value, '#') => i > 0 && rest[i - 1] == ' ',
        _ => false,
    };
    let end = (0..rest.len()).find(|&i| ends(i)).unwrap_or(rest.len());
    rest[..end].iter().rposition(|c| !c.is_whitespace()).map_or(1, |last| last + 1)
}

/// The known word nearest to `word`, if it is near enough to be a slip.
pub fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let fold = |text: &str| text.to_lowercase().replace(['-', ' '], "_");
    known
        .iter()
        .map(|candidate| (edit_distance(&fold(word), &fold(candidate)), *candidate))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, candidate)| *distance <= (candidate.chars().count() / 3).max(1))
        .map(|(_, candidate)| candidate)
}

/// Insertions, deletions, replacements and swaps of neighbours that turn `a` into `b`
/// (optimal string alignment).
fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut table = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            table[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replaced = table[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let swapped = if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    table[i - 2][j - 2] + 1
                } else {
                    usize::MAX
                };
                replaced.min(swapped).min(table[i - 1][j] + 1).min(table[i][j - 1] + 1)
            };
        }
    }
    table[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_word_and_nonsense_finds_none() {
        let known = ["dataset", "preset", "subset_size"];
        assert_eq!(nearest("presett", &known), Some("preset"));
        assert_eq!(nearest("subset-size", &known), Some("subset_size"));
        assert_eq!(nearest("datsaet", &known), Some("dataset"));
        assert_eq!(nearest("quantum", &known), None);
    }

    #[test]
    fn a_swap_of_neighbours_is_one_edit() {
        assert_eq!(edit_distance("paht", "path"), 1);
        assert_eq!(edit_distance("", "abc"), 3);
        assert_eq!(edit_distance("kitten", "sitting"), 3);
    }

    #[test]
    fn a_long_line_is_cut_around_the_spot() {
        let line = format!("{}X{}", "a".repeat(300), "b".repeat(300));
        let (shown, pad) = window(&line, 301);
        assert_eq!(shown.chars().nth(pad), Some('X'));
        assert_eq!(shown.chars().count(), 100);
    }
}
