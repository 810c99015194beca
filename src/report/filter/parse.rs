//! From words to what a row is asked.

use super::token::{Operator, Token, Word, error, tokens};
use super::{Comparison, FilterError, Test, classes_where, takes};
use crate::report::Sheet;
use crate::report::table::{Heading, Holds};

/// Deeper parentheses are a slip of the keyboard, and would exhaust the stack.
const DEEPEST: usize = 50;

pub(super) fn parse(text: &str, sheet: &Sheet) -> Result<Option<Test>, FilterError> {
    let tokens = tokens(text)?;
    if tokens.is_empty() {
        return Ok(None);
    }
    let mut parser = Parser { text, tokens: &tokens, next: 0, depth: 0, sheet };
    let test = parser.any()?;
    match parser.peek() {
        None => Ok(Some(test)),
        Some(Token { word: Word::Close, .. }) => Err(parser.error("no ( opens this".into())),
        Some(_) => Err(parser.error("expected and, or, or the end".into())),
    }
}

struct Parser<'a> {
    text: &'a str,
    tokens: &'a [Token],
    next: usize,
    depth: usize,
    sheet: &'a Sheet,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a Token> {
        self.tokens.get(self.next)
    }

    fn takes(&mut self, word: &Word) -> bool {
        let found = self.peek().is_some_and(|token| token.word == *word);
        self.next += usize::from(found);
        found
    }

    fn error(&self, message: String) -> FilterError {
        match self.peek() {
            Some(token) => error(self.text, token.at, token.length, message),
            None => error(self.text, self.text.chars().count(), 1, message),
        }
    }

    fn any(&mut self) -> Result<Test, FilterError> {
        let mut tests = vec![self.all()?];
        while self.takes(&Word::Or) {
            tests.push(self.all()?);
        }
        Ok(one_or(tests, Test::Any))
    }

    fn all(&mut self) -> Result<Test, FilterError> {
        let mut tests = vec![self.one()?];
        while self.takes(&Word::And) {
            tests.push(self.one()?);
        }
        Ok(one_or(tests, Test::All))
    }

    fn one(&mut self) -> Result<Test, FilterError> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(self.error(format!("more than {DEEPEST} of ( and not within each other")));
        }
        let test = self.one_within();
        self.depth -= 1;
        test
    }

    fn one_within(&mut self) -> Result<Test, FilterError> {
        if self.takes(&Word::Not) {
            return Ok(Test::Not(Box::new(self.one()?)));
        }
        if self.takes(&Word::Open) {
            let test = self.any()?;
            if !self.takes(&Word::Close) {
                return Err(self.error("expected ) here, for the ( before".into()));
            }
            return Ok(test);
        }
        let Some(token) = self.peek() else {
            return Err(self.error("expected a column or words to search for here".into()));
        };
        match &token.word {
            Word::Quoted(words) => {
                self.next += 1;
                Ok(self.search(words))
            }
            Word::Plain(name) => match self.tokens.get(self.next + 1).map(|next| &next.word) {
                Some(Word::Operator(operator)) => {
                    let Some(column) = self.sheet.column(name) else {
                        return Err(self.error(no_column(name, self.sheet.headings())));
                    };
                    self.next += 2;
                    self.comparison(column, *operator)
                }
                _ => match self.sheet.column(name) {
                    Some(column) => {
                        self.next += 1;
                        Ok(Test::Holds(column))
                    }
                    None => Ok(self.words()),
                },
            },
            _ => Err(self.error("expected a column or words to search for here".into())),
        }
    }

    /// Plain words that follow each other are searched for together.
    fn words(&mut self) -> Test {
        let mut words = Vec::new();
        while let Some(Token { word: Word::Plain(word), .. }) = self.peek() {
            let compared = self.tokens.get(self.next + 1).map(|next| &next.word);
            if !words.is_empty() && matches!(compared, Some(Word::Operator(_))) {
                break;
            }
            words.push(word.as_str());
            self.next += 1;
        }
        self.search(&words.join(" "))
    }

    fn search(&self, words: &str) -> Test {
        let words = words.to_lowercase();
        let classes = classes_where(self.sheet, |name| name.contains(&words));
        Test::Search { words, classes }
    }

    fn comparison(&mut self, column: usize, operator: Operator) -> Result<Test, FilterError> {
        let heading = self.sheet.headings()[column];
        let expected = || format!("expected {} after {}", takes(heading.holds), heading.short);
        let value = match self.peek().map(|token| &token.word) {
            Some(Word::Plain(value) | Word::Quoted(value)) => value,
            _ => return Err(self.error(expected())),
        };
        let (operator, negated) = match operator {
            Operator::NotEqual => (Operator::Equal, true),
            Operator::ContainsNot => (Operator::Contains, true),
            other => (other, false),
        };
        let test = self.test(column, &heading, operator, value).map_err(|why| self.error(why))?;
        self.next += 1;
        Ok(if negated { Test::Not(Box::new(test)) } else { test })
    }

    fn test(
        &self,
        column: usize,
        heading: &Heading,
        operator: Operator,
        value: &str,
    ) -> Result<Test, String> {
        let wrong = || format!("{} takes {}, found '{value}'", heading.short, takes(heading.holds));
        let lower = value.to_lowercase();
        match (heading.holds, comparison(operator)) {
            (Holds::Text, Some(comparison)) => Ok(Test::Text { column, comparison, value: lower }),
            (Holds::Text, None) => Ok(Test::Contains { column, value: lower }),
            (Holds::Count | Holds::Number, Some(comparison)) => {
                let value = number(value).ok_or_else(wrong)?;
                Ok(Test::Number { column, comparison, value })
            }
            (Holds::Class, Some(Comparison::Equal)) => {
                if let Ok(class) = value.trim_start_matches('#').parse() {
                    return Ok(Test::Class { column, classes: vec![class] });
                }
                let classes = classes_where(self.sheet, |name| name == lower);
                if classes.is_empty() {
                    let count = classes_where(self.sheet, |name| name.contains(&lower)).len();
                    return Err(match (self.sheet.classes().is_empty(), count) {
                        (true, _) => "these classes have no names; give an index".to_string(),
                        (_, 0) => format!("no class is called '{value}'"),
                        (_, 1) => {
                            format!("no class is called just '{value}', 1 holds it: use ~ in place of =")
                        }
                        (_, many) => {
                            format!("no class is called just '{value}', {many} hold it: use ~ in place of =")
                        }
                    });
                }
                Ok(Test::Class { column, classes })
            }
            (Holds::Class, None) => {
                let classes = classes_where(self.sheet, |name| name.contains(&lower));
                Ok(Test::Class { column, classes })
            }
            (Holds::Class, Some(comparison)) => {
                let value = number(value)
                    .ok_or_else(|| format!("{} takes =, != or ~ with the name of a class", heading.short))?;
                Ok(Test::Number { column, comparison, value })
            }
            (Holds::Flag, Some(Comparison::Equal)) => match lower.as_str() {
                "yes" | "true" | "1" => Ok(Test::Flag { column, value: true }),
                "no" | "false" | "0" => Ok(Test::Flag { column, value: false }),
                _ => Err(wrong()),
            },
            (Holds::Flag, _) => Err(format!("{0} takes = or !=; {0} alone asks the same", heading.short)),
            (Holds::Count | Holds::Number, None) => {
                Err(format!("{} holds numbers, and ~ looks into text: use =, < or >", heading.short))
            }
        }
    }
}

fn one_or(mut tests: Vec<Test>, many: fn(Vec<Test>) -> Test) -> Test {
    match tests.pop() {
        Some(only) if tests.is_empty() => only,
        last => {
            tests.extend(last);
            many(tests)
        }
    }
}

/// `None` where the left side is to hold the right one.
fn comparison(operator: Operator) -> Option<Comparison> {
    match operator {
        Operator::Equal | Operator::NotEqual => Some(Comparison::Equal),
        Operator::Less => Some(Comparison::Less),
        Operator::AtMost => Some(Comparison::AtMost),
        Operator::Greater => Some(Comparison::Greater),
        Operator::AtLeast => Some(Comparison::AtLeast),
        Operator::Contains | Operator::ContainsNot => None,
    }
}

/// A number, or per cent.
fn number(text: &str) -> Option<f64> {
    let text = text.replace('−', "-");
    let value = match text.strip_suffix('%') {
        Some(percent) => percent.trim().parse::<f64>().ok()? / 100.0,
        None => text.parse().ok()?,
    };
    f64::is_finite(value).then_some(value)
}

fn no_column(name: &str, headings: &[Heading]) -> String {
    let lower = name.to_lowercase();
    let near = headings.iter().map(|heading| (distance(&lower, heading.short), heading.short)).min();
    match near {
        Some((distance, short)) if distance <= 1 + name.chars().count() / 4 => {
            format!("there is no column '{name}'; did you mean {short}?")
        }
        _ => {
            let names: Vec<&str> = headings.iter().map(|heading| heading.short).collect();
            format!("there is no column '{name}'; there are {}", names.join(", "))
        }
    }
}

/// How many characters must be put in, left out or exchanged to make one word of the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let cost = (diagonal + usize::from(x != *y)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], cost);
        }
    }
    row[b.len()]
}
