//! What to do about an error.

/// What the service does about an error, decided in one place per error enum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// The cause may go away: try again with backoff, show it in the status.
    Retry,
    /// Going on could lose or reorder data: stop this stream until an operator has acted.
    Halt,
    /// The input is wrong and stays wrong: refuse it and go on.
    Reject,
}
