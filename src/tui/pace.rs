//! When to draw: not before something changed, and no more often than the line to the terminal bears.

use std::time::Duration;

/// The least times between two frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// After a key, whose frame the user waits for.
    pub key: Duration,
    /// After news of a run.
    pub news: Duration,
}

impl Pace {
    /// Over SSH 10 frames a second; 30 otherwise; or `max_fps`. A key is drawn at once, and a held key's repeats
    /// somewhat faster than news.
    pub fn new(variable: impl Fn(&str) -> String, max_fps: Option<f64>) -> Self {
        let usual = Self::of_environment(variable);
        match max_fps {
            Some(fps) => Pace { news: Duration::from_secs_f64(1.0 / fps.max(0.1)), ..usual },
            None => usual,
        }
    }

    fn of_environment(variable: impl Fn(&str) -> String) -> Self {
        let remote = ["SSH_CONNECTION", "SSH_TTY"].iter().any(|name| !variable(name).is_empty());
        let millis = Duration::from_millis;
        if remote {
            Pace { key: millis(33), news: millis(100) }
        } else {
            Pace { key: millis(8), news: millis(33) }
        }
    }
}

/// What waits to be drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    pace: Pace,
    last: Option<Duration>,
    wait: Option<Duration>,
}

impl Due {
    /// Nothing was drawn yet.
    pub fn new(pace: Pace) -> Self {
        Due { pace, last: None, wait: Some(Duration::ZERO) }
    }

    /// Something changed by a key.
    pub fn key(&mut self) {
        self.wait = Some(self.pace.key);
    }

    /// Something changed by itself.
    pub fn news(&mut self) {
        self.wait = Some(self.wait.map_or(self.pace.news, |wait| wait.min(self.pace.news)));
    }

    /// When to draw; `None` while nothing changed.
    pub fn at(&self) -> Option<Duration> {
        self.wait.map(|wait| self.last.map_or(Duration::ZERO, |last| last + wait))
    }

    /// It was drawn.
    pub fn drawn(&mut self, now: Duration) {
        self.last = Some(now);
        self.wait = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn nothing_is_drawn_while_nothing_changes() {
        let mut due = Due::new(Pace { key: MS(8), news: MS(100) });
        assert_eq!(due.at(), Some(Duration::ZERO), "the first frame at once");
        due.drawn(MS(5));
        assert_eq!(due.at(), None);
    }

    #[test]
    fn a_key_overtakes_news() {
        let mut due = Due::new(Pace { key: MS(8), news: MS(100) });
        due.drawn(MS(1000));
        due.news();
        assert_eq!(due.at(), Some(MS(1100)));
        due.key();
        due.news();
        assert_eq!(due.at(), Some(MS(1008)));
    }

    #[test]
    fn over_ssh_news_come_ten_times_a_second() {
        let remote =
            Pace::of_environment(|name| if name == "SSH_TTY" { "/dev/pts/1".into() } else { String::new() });
        assert_eq!(remote.news, MS(100));
        assert_eq!(Pace::new(|_| String::new(), None).news, MS(33));
        assert_eq!(Pace::new(|_| String::new(), Some(5.0)), Pace { key: MS(8), news: MS(200) });
    }
}
