//! Capybara: `{"conversation": [{"input": …, "output": …}, …]}`, a list of exchanges.

use super::columns::Columns;
use super::{Level, List, check_count};
use crate::dialogue::{Dialogue, Replies, Role, Turn};
use crate::stage::Reason;

const LISTS: [List; 1] = [("conversation", Level::Message)];

pub(super) fn parse(columns: &Columns<'_>) -> Result<Dialogue, Reason> {
    columns.check(&LISTS, &["system"])?;
    let exchanges = columns.objects("conversation")?;
    check_count(exchanges.len() * 2)?;
    let mut turns = Vec::with_capacity(exchanges.len() * 2);
    for exchange in exchanges {
        turns.push(Turn::new(Role::User, exchange.text("input")?));
        turns.push(Turn::new(Role::Assistant, exchange.text("output")?));
    }
    let turns = super::sharegpt::with_system(columns.maybe_text("system")?, turns)?;
    Ok(Dialogue {
        id: columns.id()?,
        source: columns.source()?,
        turns,
        replies: Replies::Inline,
        ..Dialogue::default()
    })
}
