//! Which jobs a worker must claim so that each has a target.

use std::collections::BTreeSet;

use super::{PushConfig, TargetConfig};
use crate::error::{Error, ErrorKind, Result};

/// The jobs that the targets take together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Of these queues; of all when empty.
    pub queues: Vec<String>,
    /// Of these kinds; of all when empty.
    pub kinds: Vec<String>,
}

impl PushConfig {
    /// What a worker with these targets is to claim.
    ///
    /// # Errors
    /// [`Configuration`](ErrorKind::Configuration) when no claim can ask for just that: there is
    /// no target for all jobs, and the others differ both in queues and in kinds.
    pub fn scope(&self) -> Result<Scope> {
        if self.targets.iter().any(TargetConfig::takes_all) {
            return Ok(Scope::default());
        }
        let queues: BTreeSet<BTreeSet<&String>> =
            self.targets.iter().map(|target| target.queues.iter().collect()).collect();
        let kinds: BTreeSet<BTreeSet<&String>> =
            self.targets.iter().map(|target| target.kinds.iter().collect()).collect();
        if queues.len() > 1 && kinds.len() > 1 {
            return Err(Error::new(
                ErrorKind::Configuration,
                "push: without a target for all jobs (push_url), the [[push]] tables may differ in \
                 their queues or in their kinds, not in both",
            ));
        }
        Ok(Scope { queues: together(&queues), kinds: together(&kinds) })
    }
}

/// All names; none when one target takes all.
fn together(targets: &BTreeSet<BTreeSet<&String>>) -> Vec<String> {
    if targets.iter().any(BTreeSet::is_empty) {
        return Vec::new();
    }
    let names: BTreeSet<&String> = targets.iter().flatten().copied().collect();
    names.into_iter().cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(targets: &[(&[&str], &[&str])]) -> Result<Scope> {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let targets = targets.iter().zip(0..).map(|((queues, kinds), number)| TargetConfig {
            queues: owned(queues),
            kinds: owned(kinds),
            ..TargetConfig::new(format!("t{number}"), "http://host/".parse().unwrap())
        });
        PushConfig { targets: targets.collect(), ..PushConfig::default() }.scope()
    }

    #[test]
    fn a_worker_claims_what_the_targets_take_and_nothing_else() {
        let is = |targets: &[(&[&str], &[&str])], queues: &[&str], kinds: &[&str]| {
            let scope = scope(targets).unwrap();
            assert_eq!(
                (scope.queues, scope.kinds),
                (
                    queues.iter().map(|name| (*name).to_owned()).collect(),
                    kinds.iter().map(|name| (*name).to_owned()).collect(),
                )
            );
        };
        is(&[(&["a"], &["x"]), (&[], &[])], &[], &[]);
        is(&[(&["a"], &[]), (&["b", "a"], &[])], &["a", "b"], &[]);
        is(&[(&[], &["x"]), (&[], &["y"])], &[], &["x", "y"]);
        is(&[(&["a"], &["x"]), (&["a"], &["y"])], &["a"], &["x", "y"]);
        is(&[(&["a"], &["x"]), (&["a"], &[])], &["a"], &[]);
        assert!(scope(&[(&["a"], &["x"]), (&["b"], &["y"])]).is_err());
        assert!(scope(&[(&["a"], &[]), (&[], &["y"])]).is_err());
    }
}
