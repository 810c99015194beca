//! What the user should know of the engines at work.

use crate::engine::{EngineName, builtin};
use crate::kernels;
use crate::model::Model;
use crate::progress::Progress;
use crate::run::plan::Plan;
use crate::run::worker::StageError;

/// Says which operators of the parent are slower than they need be, since the speed-up is over them too.
pub(in crate::run) fn of_tract(parent: &Model, progress: &dyn Progress) -> Result<(), StageError> {
    let mut operators = builtin::in_tract(parent)?;
    let count = operators.len();
    operators.sort_unstable();
    operators.dedup();
    if count > 0 {
        progress.warn(&format!(
            "operators of the parent that run in tract: {count} ({}), slower than in the fastest FP32 engines: judge by \
             FPS as well",
            operators.join(", ")
        ));
    }
    Ok(())
}

/// Says that engines other than calib8's own may compute the INT8 model wrongly on this processor, unless the plan
/// has seen to it. Only where they are at work: calib8's own engine is exact.
pub(in crate::run) fn of_saturation(plan: &Plan, engines: &[EngineName], progress: &dyn Progress) {
    let others: Vec<&str> =
        engines.iter().filter(|e| **e != EngineName::Builtin).map(|engine| engine.name()).collect();
    if !others.is_empty() && kernels::lacks_vnni() && !plan.optimize.avoid_saturation {
        progress.warn(&format!(
            "without VNNI, which this processor lacks, {} adds products of INT8 in 16 bits, which saturate: its \
             predictions may be much worse than those of calib8's engine; optimize.avoid_saturation: true makes a model \
             that it computes right",
            others.join(" and ")
        ));
    }
}
