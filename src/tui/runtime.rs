//! The loop: signals, keys, answers of effects, frames, in this order of importance.
//!
//! It runs on one thread and never waits for a disk or a model; effects run on others. Whatever goes
//! wrong with the terminal ends it: crossterm's reading thread turns round a dead terminal for ever
//! (crossterm#793), so a process that reads one must not outlive it.

use std::future;
use std::io;
use std::time::{Duration, Instant};

use crossterm::event::{Event, EventStream, KeyEventKind, MouseButton, MouseEventKind};
use futures_util::StreamExt;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::action::Move;
use super::app::{App, Exit, Level, Notice};
use super::image::{self, Decision, Protocol};
use super::keymap::Key;
use super::message::{Effect, Mailer, Msg};
use super::pace::{Due, Pace};
use super::settings;
use super::snapshot;
use super::tabs::{optimize, performance, projects, report};
use super::terminal::{self, Screen};
use super::update::{start, update};
use super::view::view;

/// Runs the workbench until it ends; the terminal is taken. `decide` asks it how it shows images, and gives the
/// keys that were pressed meanwhile.
///
/// # Errors
/// The terminal or a signal handler failed.
pub fn run(
    app: &mut App,
    pace: Pace,
    sync: bool,
    decide: impl FnOnce() -> (Decision, Vec<Key>),
) -> io::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let exit = runtime.block_on(Loop::run(app, pace, sync, decide));
    // Effects that are still at work on their threads have nobody to answer to.
    runtime.shutdown_background();
    exit
}

struct Loop<'a> {
    app: &'a mut App,
    screen: Screen,
    sync: bool,
    /// Columns and rows of the last frame.
    drawn: (u16, u16),
    started: Instant,
    due: Due,
    mailer: Mailer,
}

struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
    stop: Signal,
    resume: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        let raw = |name: rustix::process::Signal| signal(SignalKind::from_raw(name.as_raw()));
        Ok(Signals {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            stop: raw(rustix::process::Signal::TSTP)?,
            resume: raw(rustix::process::Signal::CONT)?,
        })
    }
}

enum Woken {
    Exit(Exit),
    Stop,
    Resume,
    Key(Msg),
    News(Msg),
    Frame,
    Time,
    Nothing,
}

impl Loop<'_> {
    async fn run(
        app: &mut App,
        pace: Pace,
        sync: bool,
        decide: impl FnOnce() -> (Decision, Vec<Key>),
    ) -> io::Result<Exit> {
        let mut signals = Signals::listen()?;
        let (sender, mut inbox) = unbounded_channel();
        let screen = terminal::screen()?;
        let size = screen.size()?;
        app.size = (size.width, size.height);
        let mut this = Loop {
            app,
            screen,
            sync,
            drawn: (0, 0),
            started: Instant::now(),
            due: Due::new(pace),
            mailer: Mailer(sender),
        };
        // The first frame comes before anything that takes time.
        this.draw()?;
        let effects = start(this.app);
        this.execute(effects)?;
        // Before anybody else reads from the terminal, whose answers would be taken for keys.
        let (decision, typed) = decide();
        this.app.images.decision = decision;
        let Decision { protocol, reason } = &this.app.images.decision;
        let text = format!("images: {protocol}, since {reason}");
        this.app.messages.push(Notice { level: Level::Done, text, at: Duration::ZERO });
        for key in typed {
            this.due.key();
            let effects = update(this.app, Msg::Key(key));
            this.execute(effects)?;
        }
        let mut events = EventStream::new();
        loop {
            if let Some(exit) = this.app.exit {
                return Ok(exit);
            }
            let woken = this.wait(&mut signals, &mut events, &mut inbox).await;
            this.app.now = this.started.elapsed();
            let effects = match woken {
                Woken::Exit(exit) => return Ok(exit),
                Woken::Stop => vec![Effect::Suspend],
                Woken::Resume => {
                    terminal::enter()?;
                    vec![Effect::Redraw]
                }
                Woken::Key(msg) => {
                    this.due.key();
                    update(this.app, msg)
                }
                Woken::News(msg) => {
                    this.due.news();
                    update(this.app, msg)
                }
                Woken::Time => {
                    this.due.key();
                    update(this.app, Msg::Time)
                }
                Woken::Frame => {
                    this.draw()?;
                    continue;
                }
                Woken::Nothing => continue,
            };
            this.execute(effects)?;
        }
    }

    async fn wait(
        &self,
        signals: &mut Signals,
        events: &mut EventStream,
        inbox: &mut UnboundedReceiver<Msg>,
    ) -> Woken {
        tokio::select! {
            biased;
            _ = signals.hangup.recv() => Woken::Exit(Exit::Hangup),
            _ = signals.terminate.recv() => Woken::Exit(Exit::Terminated),
            _ = signals.interrupt.recv() => Woken::Exit(Exit::Terminated),
            _ = signals.stop.recv() => Woken::Stop,
            _ = signals.resume.recv() => Woken::Resume,
            event = events.next() => match event {
                Some(Ok(event)) => taken(event),
                Some(Err(_)) | None => Woken::Exit(Exit::Hangup),
            },
            () = self.until(self.due.at()) => Woken::Frame,
            Some(msg) = inbox.recv() => Woken::News(msg),
            () = self.until(self.app.wake_at()) => Woken::Time,
        }
    }

    async fn until(&self, time: Option<Duration>) {
        match time {
            Some(time) => tokio::time::sleep_until((self.started + time).into()).await,
            None => future::pending().await,
        }
    }

    fn draw(&mut self) -> io::Result<()> {
        // A frame of another size is cleared first, which must not happen inside of a synchronized update.
        let size = self.screen.size()?;
        let size = (size.width, size.height);
        let same = size == self.drawn;
        self.drawn = size;
        self.app.size = size;
        let protocol = self.app.images.decision.protocol;
        let mut ops = Vec::new();
        if !same {
            let pixels = crossterm::terminal::window_size().map_or((0, 0), |size| (size.width, size.height));
            self.app.images.measure(size, pixels);
            ops = self.app.images.slot.forget(protocol);
        }
        let want = report::want(self.app);
        ops.extend(self.app.images.slot.step(protocol, want, size.1));
        let app = &*self.app;
        terminal::draw(&mut self.screen, self.sync && same, |frame| {
            view(app, frame);
            app.images.slot.cover(frame.buffer_mut());
        })?;
        self.due.drawn(self.started.elapsed());
        self.paint(&ops)
    }

    /// Sends pictures after the frame that made room for them. A picture that can't be sent is no reason
    /// to end: half blocks always can.
    fn paint(&mut self, ops: &[image::Op]) -> io::Result<()> {
        let protocol = self.app.images.decision.protocol;
        match image::print::send(ops, protocol, self.app.report.picture()) {
            Err(error) if error.kind() == io::ErrorKind::Other => {
                let reason = format!("{protocol} failed: {error}");
                self.app.say(Level::Warning, format!("images are shown as half blocks, since {reason}"));
                self.app.images.decision = Decision { protocol: Protocol::Blocks, reason };
                self.due.news();
                Ok(())
            }
            result => result,
        }
    }

    fn execute(&mut self, effects: Vec<Effect>) -> io::Result<()> {
        for effect in effects {
            let (workspace, mailer) = (self.app.workspace.clone(), self.mailer.clone());
            match effect {
                Effect::Redraw => {
                    let size = self.screen.size()?;
                    self.screen.resize(ratatui::layout::Rect::new(0, 0, size.width, size.height))?;
                    let ops = self.app.images.slot.forget(self.app.images.decision.protocol);
                    self.paint(&ops)?;
                    self.due.key();
                }
                Effect::Suspend => {
                    terminal::leave();
                    // Returns once somebody sends SIGCONT, which the loop hears as well.
                    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::STOP)?;
                }
                Effect::Copy(text) => terminal::copy(&mut self.screen, &text)?,
                Effect::KeepTheme(theme) => spawn(move || {
                    if let Err(error) = settings::keep_theme(workspace.root(), theme) {
                        mailer.send(Msg::Say(Level::Warning, error.to_string()));
                    }
                }),
                Effect::Watch => spawn(move || snapshot::watch(&workspace, &mailer)),
                Effect::Projects(effect) => spawn(move || projects::execute(effect, &workspace, &mailer)),
                Effect::Optimize(effect) => spawn(move || optimize::execute(effect, &workspace, &mailer)),
                Effect::Performance(effect) => spawn(move || performance::execute(effect, &mailer)),
                Effect::Report(effect) => spawn(move || report::execute(effect, &mailer)),
            }
        }
        Ok(())
    }
}

fn spawn(work: impl FnOnce() + Send + 'static) {
    drop(tokio::task::spawn_blocking(work));
}

fn taken(event: Event) -> Woken {
    match event {
        // Terminals that tell of repeats and releases do so with an event of their own.
        Event::Key(key) if key.kind != KeyEventKind::Release => Woken::Key(Msg::Key(key.into())),
        Event::Paste(text) => Woken::Key(Msg::Paste(text)),
        Event::Mouse(mouse) => match mouse.kind {
            MouseEventKind::ScrollUp => Woken::Key(Msg::Wheel(Move::Up)),
            MouseEventKind::ScrollDown => Woken::Key(Msg::Wheel(Move::Down)),
            MouseEventKind::Down(MouseButton::Left) => Woken::Key(Msg::Click(mouse.column, mouse.row)),
            _ => Woken::Nothing,
        },
        Event::Resize(width, height) => Woken::Key(Msg::Resize(width, height)),
        _ => Woken::Nothing,
    }
}
