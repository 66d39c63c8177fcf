//! Which dead letters are meant: ids, a filter, or all of them.

use clap::Args;
use clap::builder::PossibleValuesParser;
use serde_json::{Map, Value};

use super::super::client::Node;
use super::super::output;
use super::body;
use crate::dead_letter::DeadReason;
use crate::error::{Error, ErrorKind, Result};

/// What dead letters have in common.
#[derive(Clone, Debug, Args)]
pub(super) struct Filter {
    /// Of this queue.
    #[arg(long)]
    queue: Option<String>,
    /// Of this kind.
    #[arg(long)]
    kind: Option<String>,
    /// Dead for this reason.
    #[arg(long, value_parser = PossibleValuesParser::new(reasons()))]
    reason: Option<String>,
    /// With this text in their last error.
    #[arg(long, value_name = "TEXT")]
    error: Option<String>,
}

/// Dead letters that something is done to.
#[derive(Debug, Args)]
#[group(skip)]
pub(super) struct Selection {
    /// These dead letters.
    #[arg(conflicts_with_all = ["Filter", "all"])]
    ids: Vec<String>,
    #[command(flatten)]
    filter: Filter,
    /// All dead letters there are.
    #[arg(long, conflicts_with = "Filter")]
    all: bool,
}

impl Filter {
    fn members(&self) -> [(&'static str, &Option<String>); 4] {
        let Filter { queue, kind, reason, error } = self;
        [("queue", queue), ("kind", kind), ("reason", reason), ("error", error)]
    }

    pub(super) fn as_query(&self) -> Vec<(&'static str, Option<String>)> {
        self.members().map(|(name, value)| (name, value.clone())).to_vec()
    }
}

impl Selection {
    /// How many dead letters it means, as the node counts them.
    ///
    /// # Errors
    /// Bad usage when nothing is named: that would mean all of them.
    pub(super) fn matched(&self, node: &Node, path: &str) -> Result<u64> {
        if !self.all
            && self.ids.is_empty()
            && self.filter.members().iter().all(|(_, v)| v.is_none())
        {
            let sentence = "name dead letters by their ids, a filter like --queue, or --all";
            return Err(Error::new(ErrorKind::Configuration, sentence));
        }
        let dry_run = [("dry_run", Value::Bool(true))];
        let counted: Value = node.post_many(path, self.body(&dry_run)?)?.json()?;
        Ok(output::number(&counted, "matched"))
    }

    /// The call's body: the selection and these members more.
    pub(super) fn body(&self, more: &[(&str, Value)]) -> Result<Vec<u8>> {
        let mut members = Map::new();
        if !self.ids.is_empty() {
            members.insert("ids".to_owned(), self.ids.clone().into());
        }
        for (name, value) in self.filter.members() {
            if let Some(value) = value {
                members.insert(name.to_owned(), value.clone().into());
            }
        }
        members.extend(more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        body(&Value::Object(members))
    }

    /// The selection as a question names it.
    pub(super) fn in_words(&self) -> String {
        if self.all {
            return "all there are".to_owned();
        }
        let given = self.filter.members();
        let given = given.iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
        let given: Vec<String> = given.map(|(name, value)| format!("{name} {value:?}")).collect();
        if given.is_empty() { "by id".to_owned() } else { given.join(", ") }
    }
}

fn reasons() -> [&'static str; 5] {
    DeadReason::ALL.map(|reason| reason.as_str())
}
