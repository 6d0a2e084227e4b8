//! What is seen of a node beside its stream. In: what it answers on a side connection, again and again. Out: [`Finding`]s: troubles that
//! begin and end, and reasons to end the stream.
//!
//! A stream alone does not tell everything: the dump of a node whose binlogs were reset goes on in silence, a node with a full disk sends
//! heartbeats, and a changed setting shows only in what is written later.

use std::time::Duration;

use tributary_binlog::GtidSet;
use tributary_flow::SourcePos;

use super::{
    choice::{Review, minus},
    resume::GtidText,
    settings::SettingsProblem,
    trouble::TroubleKind,
};

/// A clock that moves by more than this against ours, between two looks, has jumped. µs.
const JUMP_MICROS: i64 = 2_000_000;
/// So many looks after a jump, the new time counts as usual.
const JUMP_ROUNDS: u32 = 12;

/// One look at a node.
#[derive(Debug, Clone, Default)]
pub(crate) struct Look {
    /// `gtid_executed`.
    pub(crate) executed: GtidSet,
    /// Where its binlog ends; `None` when it gave no answer to that alone.
    pub(crate) end: Option<SourcePos>,
    /// Its clock minus ours, µs.
    pub(crate) clock: i64,
    /// How long the quickest answer took.
    pub(crate) round_trip: Duration,
    /// What is wrong with its settings.
    pub(crate) problems: Vec<SettingsProblem>,
    /// The other servers of its group.
    pub(crate) review: Review,
}

/// What a look brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Finding {
    /// A trouble, with its text.
    Begins(TroubleKind, String),
    /// It is over.
    Ends(TroubleKind),
    /// The binlog was reset: what is being read is not the node's any more.
    WentBack {
        /// GTIDs that it had executed and has not now; empty when only positions went back.
        lost: GtidText,
    },
    /// Another server of the group is the primary now.
    Demoted,
}

/// Compares a node's looks.
#[derive(Debug)]
pub(crate) struct Watcher {
    slow: Duration,
    executed: GtidSet,
    end: SourcePos,
    /// What its clock minus ours usually is.
    clock: Option<i64>,
    jumped: u32,
}

impl Watcher {
    /// Answers that take longer than `slow` are too slow.
    pub(crate) fn new(slow: Duration) -> Self {
        Self {
            slow,
            executed: GtidSet::new(),
            end: SourcePos::default(),
            clock: None,
            jumped: 0,
        }
    }

    /// Takes a look.
    pub(crate) fn handle(&mut self, look: &Look) -> Vec<Finding> {
        let mut found = Vec::new();
        let mut note = |kind, text: Option<String>| {
            found.push(match text {
                Some(text) => Finding::Begins(kind, text),
                None => Finding::Ends(kind),
            });
        };
        let problems: Vec<String> = look.problems.iter().map(ToString::to_string).collect();
        note(
            TroubleKind::WrongSettings,
            (!problems.is_empty()).then(|| problems.join("; ")),
        );
        note(TroubleKind::NodeSlow, self.slowness(look));
        note(TroubleKind::ClockJump, self.clock(look.clock));
        let stalled = "the node does not say where its binlog ends, but answers to everything else: something holds its \
                       binlog, usually a write to a full disk";
        note(
            TroubleKind::BinlogStalled,
            look.end.is_none().then(|| stalled.to_owned()),
        );
        note(TroubleKind::TwoPrimaries, rivals(&look.review));
        note(TroubleKind::ErrantTransactions, errants(&look.review));
        if look.review.demoted {
            found.push(Finding::Demoted);
        }
        found.extend(self.went_back(look));
        found
    }

    fn slowness(&self, look: &Look) -> Option<String> {
        let took = look.round_trip.as_millis();
        (look.round_trip > self.slow).then(|| format!("the node's quickest answer took {took} ms"))
    }

    /// A jump is over when the clock is back, or when it has been steady for a while.
    fn clock(&mut self, now: i64) -> Option<String> {
        let usual = *self.clock.get_or_insert(now);
        let by = now.saturating_sub(usual);
        if by.abs() <= JUMP_MICROS || self.jumped >= JUMP_ROUNDS {
            self.clock = Some(now);
            self.jumped = 0;
            return None;
        }
        self.jumped += 1;
        let seconds = by as f64 / 1e6;
        Some(format!(
            "the node's clock jumped by {seconds:+.1} s against this machine's"
        ))
    }

    /// Both only grow in one history of a server.
    fn went_back(&mut self, look: &Look) -> Option<Finding> {
        let lost = minus(&self.executed, &look.executed);
        let behind = look.end.is_some_and(|end| end < self.end);
        self.executed.clone_from(&look.executed);
        self.end = look.end.unwrap_or(self.end);
        (behind || !lost.is_empty()).then_some(Finding::WentBack {
            lost: GtidText(lost),
        })
    }
}

fn rivals(review: &Review) -> Option<String> {
    let rivals = review.rivals.join(", ");
    (!rivals.is_empty()).then(|| {
        format!("{rivals} is writable and does not replicate, beside the server that is read")
    })
}

fn errants(review: &Review) -> Option<String> {
    let texts: Vec<String> = (review.errants.iter())
        .map(|(name, set)| format!("{name} has {}", set.to_text_oneline()))
        .collect();
    (!texts.is_empty()).then(|| {
        format!(
            "transactions that are not on the primary: {}",
            texts.join("; ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

    fn look(gnos: &str, offset: u64) -> Look {
        Look {
            executed: format!("{UUID}:{gnos}").parse().unwrap(),
            end: Some(SourcePos { file: 3, offset }),
            ..Look::default()
        }
    }

    fn begins(found: &[Finding]) -> Vec<TroubleKind> {
        let kind = |f: &Finding| match f {
            Finding::Begins(kind, _) => Some(*kind),
            _ => None,
        };
        found.iter().filter_map(kind).collect()
    }

    #[test]
    fn a_sound_node_has_no_trouble() {
        let mut w = Watcher::new(Duration::from_secs(1));
        for offset in [100, 100, 200] {
            let found = w.handle(&look("1-5", offset));
            assert!(
                found.iter().all(|f| matches!(f, Finding::Ends(_))),
                "{found:?}"
            );
            assert_eq!(found.len(), 6, "every trouble is ended by name");
        }
    }

    #[test]
    fn each_trouble_begins_with_its_cause_and_ends_with_it() {
        let mut w = Watcher::new(Duration::from_secs(1));
        w.handle(&look("1-5", 100));
        let mut bad = look("1-5", 100);
        bad.round_trip = Duration::from_millis(1500);
        bad.problems = vec![SettingsProblem::LogBin];
        bad.end = None;
        bad.review.rivals = vec!["b:1".into()];
        bad.review.errants = [("b:1".to_owned(), look("9", 0).executed)].into();
        let kinds = begins(&w.handle(&bad));
        assert_eq!(
            kinds,
            [
                TroubleKind::WrongSettings,
                TroubleKind::NodeSlow,
                TroubleKind::BinlogStalled,
                TroubleKind::TwoPrimaries,
                TroubleKind::ErrantTransactions
            ]
        );
        assert!(begins(&w.handle(&look("1-5", 100))).is_empty());
    }

    #[test]
    fn a_history_that_went_back_ends_the_stream() {
        let mut w = Watcher::new(Duration::from_secs(1));
        w.handle(&look("1-5", 100));
        let found = w.handle(&look("1-4", 100));
        assert!(found.contains(&Finding::WentBack {
            lost: GtidText(look("5", 0).executed)
        }));
        // Reset, and more written than before: only the position tells.
        let found = w.handle(&look("1-9", 90));
        assert!(found.contains(&Finding::WentBack {
            lost: GtidText(GtidSet::new())
        }));
        let found = w.handle(&look("1-9", 90));
        assert!(begins(&found).is_empty() && found.len() == 6, "{found:?}");
    }

    #[test]
    fn a_clock_that_jumps_is_named_until_it_is_back_or_steady() {
        let mut w = Watcher::new(Duration::from_secs(1));
        let at = |w: &mut Watcher, seconds: i64| {
            let mut l = look("1", 1);
            l.clock = seconds * 1_000_000;
            let found = w.handle(&l);
            found.into_iter().find_map(|f| match f {
                Finding::Begins(TroubleKind::ClockJump, text) => Some(text),
                _ => None,
            })
        };
        assert_eq!(
            at(&mut w, 100),
            None,
            "a clock may be wrong from the beginning"
        );
        assert_eq!(at(&mut w, 101), None);
        let text = at(&mut w, 1).expect("a jump");
        assert!(text.contains("-100.0 s"), "{text}");
        assert_eq!(at(&mut w, 101), None, "back");
        let rounds = (0..100).take_while(|_| at(&mut w, 500).is_some()).count();
        assert_eq!(rounds as u32, JUMP_ROUNDS);
        assert_eq!(at(&mut w, 500), None);
    }
}
