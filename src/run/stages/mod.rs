//! The stages of a run, one file each. [`measure`] and [`report`] also serve `calib8 compare`, which
//! has two models and no plan.

pub(super) mod baseline;
pub(super) mod cache;
pub(super) mod calibrate;
pub(super) mod checkpoint;
pub(super) mod closing;
pub(super) mod elsewhere;
mod forms;
pub(super) mod held;
pub(super) mod load;
pub(super) mod measure;
pub(super) mod observing;
pub(super) mod page;
pub(super) mod prepare;
pub(super) mod ranking;
pub(super) mod recipe;
pub(super) mod report;
pub(super) mod sensitivity;
pub(super) mod tradeoff;
pub(super) mod unreadable;
pub(super) mod verify;
pub(super) mod warnings;

pub(super) use elsewhere::FOLDER as HOSTS_FOLDER;
