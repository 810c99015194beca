//! Observe activations, choose ranges, correct, write the INT8 model.
