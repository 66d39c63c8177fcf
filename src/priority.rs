//! The five priorities and values kept per priority.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

use crate::error::Error;

/// How urgent a job is. Workers take a more urgent job first; within a priority, the oldest.
///
/// The order of the variants is the order of service: `Critical < Bulk`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, ToSchema)]
#[schema(
    rename_all = "lowercase",
    description = "How urgent a job is, most urgent first: critical, high, default, low, bulk. \
                   Read in any letter case, written in lower case."
)]
pub enum Priority {
    /// Served before everything else.
    Critical,
    /// Served after critical.
    High,
    /// What a job gets when nobody says otherwise.
    #[default]
    Default,
    /// Served after default.
    Low,
    /// Served last: work that can wait for hours.
    Bulk,
}

impl Priority {
    /// All priorities, most urgent first.
    pub const ALL: [Priority; 5] =
        [Priority::Critical, Priority::High, Priority::Default, Priority::Low, Priority::Bulk];

    /// The place of this priority in [`Priority::ALL`]; it is also its number on disk.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The priority with this number on disk.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Priority> {
        Priority::ALL.get(usize::from(number)).copied()
    }

    /// The next more urgent one; `None` above critical.
    #[must_use]
    pub(crate) fn one_up(self) -> Option<Priority> {
        self.number().checked_sub(1).and_then(Priority::from_number)
    }

    /// The lower-case name used in JSON, in metric labels and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Priority::Critical => "critical",
            Priority::High => "high",
            Priority::Default => "default",
            Priority::Low => "low",
            Priority::Bulk => "bulk",
        }
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for Priority {
    type Err = Error;

    /// Reads a priority in any letter case.
    fn from_str(text: &str) -> Result<Self, Error> {
        Priority::ALL
            .into_iter()
            .find(|priority| priority.as_str().eq_ignore_ascii_case(text))
            .ok_or_else(|| {
                Error::invalid(
                    "priority",
                    format!("{text:?} is not a priority; use critical, high, default, low or bulk"),
                )
            })
    }
}

impl Serialize for Priority {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Priority {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// One value for each priority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PerPriority<T>([T; 5]);

impl<T> PerPriority<T> {
    /// Builds the value of each priority in turn, most urgent first.
    pub fn from_fn(build: impl FnMut(Priority) -> T) -> Self {
        PerPriority(Priority::ALL.map(build))
    }

    /// Each priority with its value, most urgent first.
    pub fn iter(&self) -> impl Iterator<Item = (Priority, &T)> {
        Priority::ALL.into_iter().zip(self.0.iter())
    }
}

impl<T> std::ops::Index<Priority> for PerPriority<T> {
    type Output = T;

    fn index(&self, priority: Priority) -> &T {
        let [critical, high, default, low, bulk] = &self.0;
        match priority {
            Priority::Critical => critical,
            Priority::High => high,
            Priority::Default => default,
            Priority::Low => low,
            Priority::Bulk => bulk,
        }
    }
}

impl<T> std::ops::IndexMut<Priority> for PerPriority<T> {
    fn index_mut(&mut self, priority: Priority) -> &mut T {
        let [critical, high, default, low, bulk] = &mut self.0;
        match priority {
            Priority::Critical => critical,
            Priority::High => high,
            Priority::Default => default,
            Priority::Low => low,
            Priority::Bulk => bulk,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_go_there_and_back() {
        for priority in Priority::ALL {
            assert_eq!(Priority::from_number(priority.number()), Some(priority));
            assert_eq!(priority.as_str().to_uppercase().parse::<Priority>().unwrap(), priority);
        }
        assert_eq!(Priority::from_number(5), None);
        let refused = "urgent".parse::<Priority>().unwrap_err();
        assert!(refused.to_string().contains("urgent"), "{refused}");
    }
}
