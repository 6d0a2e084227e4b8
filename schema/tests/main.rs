//! Statements and rows against what a real server made of them.

mod fixtures;
mod rows;
mod speed;
mod statements;
