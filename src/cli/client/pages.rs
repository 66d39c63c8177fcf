//! Follows a list from page to page.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Node, query};
use crate::error::Result;

/// Most jobs in one page.
const PAGE_JOBS_MAX: u64 = 1_000;

#[derive(Deserialize)]
struct Page {
    jobs: Vec<Box<RawValue>>,
    next_cursor: Option<String>,
}

/// Shows up to `limit` jobs of a list (all of them without one), page by page as they come. True
/// when there are more.
pub(in crate::cli) fn pages(
    node: &Node,
    path: &str,
    filter: &[(&str, Option<String>)],
    limit: Option<u64>,
    mut show: impl FnMut(&[Box<RawValue>]) -> Result<()>,
) -> Result<bool> {
    let mut left = limit.unwrap_or(u64::MAX);
    let mut cursor = None;
    loop {
        let mut values = filter.to_vec();
        values.push(("limit", Some(left.min(PAGE_JOBS_MAX).to_string())));
        values.push(("cursor", cursor.take()));
        let page: Page = node.get(&query(path, &values))?.json()?;
        left = left.saturating_sub(page.jobs.len() as u64);
        show(&page.jobs)?;
        match page.next_cursor {
            // A page may be short, or even empty, before the end.
            Some(next) if left > 0 => cursor = Some(next),
            next => return Ok(next.is_some()),
        }
    }
}
