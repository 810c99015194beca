//! One piece of work: plan, events, worker, gates. The only way in which work is ever done.
