//! What is kept: one trait in the domain's verbs, and its backends.
