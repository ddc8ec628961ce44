//! Plans: complete, repeatable, sticky, within their budgets, and idle once they were carried out.

mod figures;
mod orders;
mod properties;
mod silence;
mod stage;
