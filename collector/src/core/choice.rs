//! Which server of a failover group is read. In: what its servers say of themselves, what was read, what was seen of them
//! before. Out: the primary, or why none can be read.
//!
//! Only the primary is read: a fence asks "where does your binlog end", and the answer of a replica that lags behind its primary
//! would prove nothing. The primary is the one server that is writable, is not replicating, and has applied all it received.
//!
//! A server that becomes the primary must have everything that was read, or downstream has transactions that are nowhere else;
//! and it must not bring transactions that the primary before it never had (errant ones), which were seen on it while it was
//! a replica. Nothing is skipped in either case.

use std::collections::BTreeMap;

use thiserror::Error;
use tributary_binlog::GtidSet;

use super::resume::GtidText;

/// What a server of a group says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Member {
    /// `host:port`.
    pub(crate) name: String,
    /// `read_only` and `super_read_only` are both off.
    pub(crate) writable: bool,
    /// A replication channel receives, or tries to.
    pub(crate) replicating: bool,
    /// What its replication channels received.
    pub(crate) retrieved: GtidSet,
    /// `gtid_executed`.
    pub(crate) executed: GtidSet,
}

impl Member {
    fn is_primary(&self) -> bool {
        self.writable && !self.replicating
    }

    fn to_apply(&self) -> GtidSet {
        minus(&self.retrieved, &self.executed)
    }
}

/// A server of a group, reached or not.
#[derive(Debug, Clone)]
pub(crate) enum Seen {
    /// It answered.
    Member(Member),
    /// It did not.
    Unreachable {
        /// `host:port`.
        name: String,
        /// Why.
        error: String,
    },
}

impl Seen {
    /// What it said, if it answered.
    pub(crate) fn member(&self) -> Option<&Member> {
        match self {
            Self::Member(member) => Some(member),
            Self::Unreachable { .. } => None,
        }
    }

    fn describe(&self) -> String {
        match self {
            Self::Unreachable { name, error } => format!("{name}: {error}"),
            Self::Member(m) if m.replicating => format!("{} is a replica", m.name),
            Self::Member(m) if !m.writable => format!("{} is read-only", m.name),
            Self::Member(m) => format!("{} is writable", m.name),
        }
    }
}

/// Why no server of a group can be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ChoiceError {
    /// All are down, read-only or replicas.
    #[error("no server of this node is its primary: {servers}")]
    NoPrimary {
        /// Each with what it is.
        servers: String,
    },
    /// Several could be it.
    #[error(
        "several servers of this node are writable and do not replicate: {servers}. Reading one of them could miss what the \
         others commit; make all but one read-only"
    )]
    TwoPrimaries {
        /// Their addresses.
        servers: String,
    },
    /// It was a replica and has not caught up with itself.
    #[error("{server} is the primary now, and still applies what it had received: {missing}")]
    Applying {
        /// Its address.
        server: String,
        /// GTIDs that it received and has not executed.
        missing: Box<GtidText>,
    },
    /// It lacks what was read.
    #[error(
        "{server} is the primary now, and lacks transactions that were already read from this node: {missing} (it has executed \
         {executed}). They were lost in the failover: bring them to this server from the old one, or remove the node and add \
         it again with a new start"
    )]
    Missing {
        /// Its address.
        server: String,
        /// GTIDs that were read and are not in its `gtid_executed`.
        missing: Box<GtidText>,
        /// Its `gtid_executed`.
        executed: Box<GtidText>,
    },
    /// It has what the primary before it had not.
    #[error(
        "{server} is the primary now, and has transactions that were never on the primary before it: {errant}. Provision this \
         server anew from the old one, or remove the node and add it again with a new start"
    )]
    Errant {
        /// Its address.
        server: String,
        /// The GTIDs.
        errant: Box<GtidText>,
    },
    /// The server being read is not the primary any more.
    #[error("{server} is not the primary of this node any more")]
    Demoted {
        /// Its address.
        server: String,
    },
}

/// GTIDs seen on a server while another one was the primary, which had not got them; by address.
pub(crate) type Errants = BTreeMap<String, GtidSet>;

/// `a` without `b`.
pub(crate) fn minus(a: &GtidSet, b: &GtidSet) -> GtidSet {
    let mut rest = a.clone();
    rest.subtract(b);
    rest
}

/// The place of the primary among `seen`. `have` is what was read; `None` before the first start.
pub(crate) fn choose(
    seen: &[Seen],
    have: Option<&GtidSet>,
    errants: &Errants,
) -> Result<usize, ChoiceError> {
    let primaries: Vec<(usize, &Member)> = (seen.iter().enumerate())
        .filter_map(|(i, s)| s.member().map(|m| (i, m)))
        .filter(|(_, m)| m.is_primary())
        .collect();
    let (index, primary) = match primaries[..] {
        [] => {
            let servers: Vec<String> = seen.iter().map(Seen::describe).collect();
            let servers = servers.join("; ");
            return Err(ChoiceError::NoPrimary { servers });
        }
        [one] => one,
        _ => {
            let names: Vec<&str> = primaries.iter().map(|(_, m)| m.name.as_str()).collect();
            let servers = names.join(", ");
            return Err(ChoiceError::TwoPrimaries { servers });
        }
    };
    let server = primary.name.clone();
    let text = |set| Box::new(GtidText(set));
    let to_apply = primary.to_apply();
    if !to_apply.is_empty() {
        let missing = text(to_apply);
        return Err(ChoiceError::Applying { server, missing });
    }
    let Some(have) = have else {
        return Ok(index);
    };
    let missing = minus(have, &primary.executed);
    if !missing.is_empty() {
        return Err(ChoiceError::Missing {
            server,
            missing: text(missing),
            executed: text(primary.executed.clone()),
        });
    }
    let errant = errants.get(&server).map(|set| minus(set, have));
    let errant = errant.map(|set| set.intersect(&primary.executed));
    match errant {
        Some(errant) if !errant.is_empty() => Err(ChoiceError::Errant {
            server,
            errant: text(errant),
        }),
        _ => Ok(index),
    }
}

/// What the servers of a group look like while the one at `current` is read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Review {
    /// Servers that could be the primary beside it.
    pub(crate) rivals: Vec<String>,
    /// Transactions of the others that it has not got.
    pub(crate) errants: Errants,
    /// It is not the primary any more, and another one is.
    pub(crate) demoted: bool,
}

/// Compares the servers of a group. The others must have been asked before `current`, so that what they replicated from it is
/// on it.
pub(crate) fn review(seen: &[Seen], current: usize) -> Review {
    let mut review = Review::default();
    let primary = seen.get(current).and_then(Seen::member);
    let others = (seen.iter().enumerate()).filter(|(i, _)| *i != current);
    for member in others.filter_map(|(_, s)| s.member()) {
        if member.is_primary() {
            review.rivals.push(member.name.clone());
        }
        let Some(primary) = primary else { continue };
        let errant = minus(&member.executed, &primary.executed);
        if !errant.is_empty() {
            review.errants.insert(member.name.clone(), errant);
        }
    }
    let is_primary = primary.is_some_and(Member::is_primary);
    review.demoted = !is_primary && review.rivals.len() == 1;
    if review.demoted {
        // Its writes are the new primary's own.
        review.errants.clear();
    }
    review
}

/// What was seen twice in a row. A semi-synchronous replica may execute a transaction before its primary has finished
/// committing it.
pub(crate) fn confirmed(before: &Errants, now: &Errants) -> Errants {
    let both = |(name, set): (&String, &GtidSet)| {
        let set = set.intersect(before.get(name)?);
        (!set.is_empty()).then(|| (name.clone(), set))
    };
    now.iter().filter_map(both).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "aaaaaaaa-0000-0000-0000-000000000000";
    const B: &str = "bbbbbbbb-0000-0000-0000-000000000000";

    fn set(text: &str) -> GtidSet {
        text.parse().unwrap()
    }

    fn member(name: &str, writable: bool, executed: &str) -> Member {
        Member {
            name: name.to_owned(),
            writable,
            replicating: !writable,
            retrieved: GtidSet::new(),
            executed: set(executed),
        }
    }

    fn seen(members: &[&Member]) -> Vec<Seen> {
        members.iter().map(|m| Seen::Member((*m).clone())).collect()
    }

    #[test]
    fn only_one_writable_server_is_chosen() {
        let (a, b) = (member("a:1", true, ""), member("b:1", false, ""));
        assert_eq!(choose(&seen(&[&b, &a]), None, &Errants::new()), Ok(1));
        let down = Seen::Unreachable {
            name: "a:1".into(),
            error: "refused".into(),
        };
        let error = choose(&[down, Seen::Member(b.clone())], None, &Errants::new()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no server of this node is its primary: a:1: refused; b:1 is a replica"
        );
        let rival = member("b:1", true, "");
        let error = choose(&seen(&[&a, &rival]), None, &Errants::new()).unwrap_err();
        assert!(error.to_string().contains("a:1, b:1"), "{error}");
        let mut stopped = b;
        stopped.replicating = false;
        let error = choose(&seen(&[&stopped]), None, &Errants::new()).unwrap_err();
        assert!(error.to_string().contains("b:1 is read-only"), "{error}");
    }

    #[test]
    fn a_new_primary_is_compared_with_what_was_read() {
        let have = set(&format!("{A}:1-10"));
        let mut b = member("b:1", true, &format!("{A}:1-10,{B}:1"));
        let run = |b: &Member, errants: &Errants| choose(&seen(&[b]), Some(&have), errants);
        assert_eq!(run(&b, &Errants::new()), Ok(0));
        let errants = Errants::from([("b:1".to_owned(), set(&format!("{B}:1")))]);
        let error = run(&b, &errants).unwrap_err();
        assert!(
            matches!(&error, ChoiceError::Errant { errant, .. } if errant.0 == set(&format!("{B}:1"))),
            "{error}"
        );
        b.executed = set(&format!("{A}:1-8"));
        let error = run(&b, &errants).unwrap_err();
        assert!(
            matches!(&error, ChoiceError::Missing { missing, .. } if missing.0 == set(&format!("{A}:9-10"))),
            "{error}"
        );
        b.retrieved = set(&format!("{A}:1-10"));
        let error = run(&b, &errants).unwrap_err();
        assert!(
            matches!(&error, ChoiceError::Applying { missing, .. } if missing.0 == set(&format!("{A}:9-10"))),
            "{error}"
        );
    }

    #[test]
    fn a_review_names_rivals_errants_and_a_handover() {
        let a = member("a:1", true, &format!("{A}:1-10"));
        let b = member("b:1", false, &format!("{A}:1-9,{B}:1"));
        let found = review(&seen(&[&a, &b]), 0);
        assert_eq!(found.errants["b:1"], set(&format!("{B}:1")));
        assert!(found.rivals.is_empty() && !found.demoted);
        assert!(confirmed(&Errants::new(), &found.errants).is_empty());
        assert_eq!(confirmed(&found.errants, &found.errants), found.errants);
        let rival = member("b:1", true, &format!("{A}:1-9"));
        let found = review(&seen(&[&a, &rival]), 0);
        assert_eq!(found.rivals, ["b:1"]);
        assert!(!found.demoted, "the one that is read is still writable");
        let old = member("a:1", false, &format!("{A}:1-10"));
        let new = member("b:1", true, &format!("{A}:1-10,{B}:1"));
        let found = review(&seen(&[&old, &new]), 0);
        assert!(found.demoted && found.errants.is_empty());
        let gone = Seen::Unreachable {
            name: "a:1".into(),
            error: "x".into(),
        };
        assert!(review(&[gone, Seen::Member(new)], 0).demoted);
    }
}
