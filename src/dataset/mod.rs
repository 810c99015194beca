//! Find images and labels, decode, preprocess into arrays, prefetch. Knows no model.
