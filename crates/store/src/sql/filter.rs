//! Filters as conditions of SQL. Values are always bound, never written into the text; every condition is true or
//! false and never NULL, so that `Not` means what it says.

use super::Statement;
use crate::{
    Error, Result,
    query::{Filter, Operator, Value, fold},
};
use mailyard_policy::Reason;

/// SQLite takes expressions up to a depth of 1,000, PostgreSQL deeper ones.
const LARGEST: usize = 300;

/// What a field of a list is in SQL.
#[derive(Clone, Copy)]
pub(super) enum Column {
    /// A folded text that may be NULL.
    Text(&'static str),
    /// Folded lines: equal means that a line is equal.
    Lines(&'static str),
    /// A word.
    Word(&'static str),
    /// A number or moment that may be NULL.
    Number(&'static str),
    /// Any of these words.
    AnyWord(&'static [&'static str]),
    /// A condition around one on a folded text: what stands before it, the text, what stands behind it.
    Around(&'static str, &'static str, &'static str),
}

/// The fields of a list.
pub(super) type Columns = fn(&str) -> Option<Column>;

/// Fields of mailboxes `m`.
pub(super) const MAILBOXES: Columns = |field| {
    Some(match field {
        "address" => Column::Text("m.address_key"),
        "display_name" => Column::Text("m.name_key"),
        "kind" => Column::Word("m.kind"),
        "profile" => Column::Text("(SELECT p.name_key FROM profile p WHERE p.profile_id = m.profile_id)"),
        "approval" => Column::Word("m.approval"),
        "state" => Column::Word("m.health"),
        "incoming" => Column::Word("m.incoming_state"),
        "outgoing" => Column::Word("m.outgoing_state"),
        "act" => Column::Word("m.act_state"),
        "operation_state" => Column::AnyWord(&["m.incoming_state", "m.outgoing_state", "m.act_state"]),
        "reason" => Column::AnyWord(&["m.incoming_reason", "m.outgoing_reason", "m.act_reason"]),
        "crm_id" => Column::Text("m.crm_key"),
        "owner_email" => Column::Text("m.owner_key"),
        "create_time" => Column::Number("m.create_time"),
        _ => return None,
    })
};

/// Fields of records `r` with their sendings `o`.
pub(super) const EMAILS: Columns = |field| {
    Some(match field {
        "mailbox" => Column::Around(
            "(r.record_id IN (SELECT t.record_id FROM sighting t JOIN mailbox m USING (mailbox_id) WHERE m.org = r.org AND ",
            "m.address_key",
            ") OR r.direction = 'outgoing' AND r.mailbox_id IN (SELECT m.mailbox_id FROM mailbox m WHERE m.org = r.org AND ",
        ),
        "direction" => Column::Word("r.direction"),
        "state" => Column::Word("r.state"),
        "internet_message_id" => Column::Text("r.message_id_key"),
        "subject" => Column::Text("r.subject_key"),
        "from" => Column::Text("r.from_key"),
        "to" => Column::Lines("r.to_key"),
        "received_time" => Column::Number("r.received_time"),
        "create_time" => Column::Number("r.create_time"),
        "size" => Column::Number("r.size"),
        "reason" => Column::Word("o.reason"),
        _ => return None,
    })
};

/// Fields of alerts `a`.
pub(super) const ALERTS: Columns = |field| {
    Some(match field {
        "reason" => Column::Word("a.reason"),
        "level" => Column::Word("a.level"),
        "scope" => Column::Word("a.scope"),
        "state" => Column::Word("CASE WHEN a.resolved_time IS NULL THEN 'open' ELSE 'resolved' END"),
        "regarding" => Column::Text(
            "CASE a.regarding_kind
               WHEN 'mailbox' THEN (SELECT m.address_key FROM mailbox m WHERE m.mailbox_id = a.regarding_id)
               WHEN 'profile' THEN (SELECT p.name_key FROM profile p WHERE p.profile_id = a.regarding_id)
               ELSE a.regarding_text END",
        ),
        "profile" => Column::Text("(SELECT p.name_key FROM profile p WHERE p.profile_id = a.profile_id)"),
        "count" => Column::Number("a.count"),
        "first_time" => Column::Number("a.first_time"),
        "last_time" => Column::Number("a.last_time"),
        _ => return None,
    })
};

/// Writes the condition of a filter.
pub(super) fn push(query: &mut Statement, columns: Columns, filter: &Filter) -> Result<()> {
    if size(filter) > LARGEST {
        let detail = format!("it has more than {LARGEST} conditions");
        return Err(Error::refused_field(Reason::FilterInvalid, "filter", detail));
    }
    condition(query, columns, filter)
}

fn size(filter: &Filter) -> usize {
    match filter {
        Filter::All | Filter::Compare { .. } => 1,
        Filter::And(parts) | Filter::Or(parts) => 1 + parts.iter().map(size).sum::<usize>(),
        Filter::Not(part) => 1 + size(part),
    }
}

fn condition(query: &mut Statement, columns: Columns, filter: &Filter) -> Result<()> {
    match filter {
        Filter::All => query.add("TRUE"),
        Filter::And(parts) => join(query, columns, parts, " AND ", "TRUE")?,
        Filter::Or(parts) => join(query, columns, parts, " OR ", "FALSE")?,
        Filter::Not(part) => {
            query.add("NOT (");
            condition(query, columns, part)?;
            query.add(")");
        }
        Filter::Compare { field, operator, value } => {
            let column = columns(field).ok_or_else(|| {
                let detail = format!("this list has no field {field}");
                Error::refused_field(Reason::FilterFieldUnknown, "filter", detail)
            })?;
            let (negated, operator) = match operator {
                Operator::NotEqual => (true, Operator::Equal),
                other => (false, *other),
            };
            query.add(if negated { "NOT coalesce(" } else { "coalesce(" });
            compare(query, field, column, operator, value)?;
            query.add(", FALSE)");
        }
    }
    Ok(())
}

fn join(query: &mut Statement, columns: Columns, parts: &[Filter], word: &str, none: &str) -> Result<()> {
    query.add("(");
    for (at, part) in parts.iter().enumerate() {
        if at > 0 {
            query.add(word);
        }
        condition(query, columns, part)?;
    }
    if parts.is_empty() {
        query.add(none);
    }
    query.add(")");
    Ok(())
}

fn compare(
    query: &mut Statement,
    field: &str,
    column: Column,
    operator: Operator,
    value: &Value,
) -> Result<()> {
    let unfit = || {
        let detail = format!("the field {field} cannot be compared so");
        Error::refused_field(Reason::FilterInvalid, "filter", detail)
    };
    match (column, value) {
        (Column::Text(sql), Value::Text(text)) => text_condition(query, sql, operator, &fold(text)),
        (Column::Lines(sql), Value::Text(text)) if operator == Operator::Equal => {
            contains(query, &format!("'\n' || {sql} || '\n'"), format!("\n{}\n", fold(text)));
        }
        (Column::Lines(sql), Value::Text(text)) if operator == Operator::Contains => {
            text_condition(query, sql, operator, &fold(text));
        }
        (Column::Word(sql), Value::Text(text)) => word_condition(query, sql, operator, text),
        (Column::AnyWord(words), Value::Text(text)) => {
            for (at, sql) in words.iter().enumerate() {
                query.add(if at > 0 { " OR coalesce(" } else { "(coalesce(" });
                word_condition(query, sql, operator, text);
                query.add(", FALSE)");
            }
            query.add(")");
        }
        (Column::Around(before, sql, between), Value::Text(text)) => {
            query.add(before);
            text_condition(query, sql, operator, &fold(text));
            query.add(between);
            text_condition(query, sql, operator, &fold(text));
            query.add("))");
        }
        (Column::Number(sql), Value::Number(number)) => {
            query.add(sql);
            query.add(sign(operator).ok_or_else(unfit)?);
            query.add_value(*number);
        }
        (Column::Number(sql), Value::Time(at)) => {
            query.add(sql);
            query.add(sign(operator).ok_or_else(unfit)?);
            query.add_value(*at);
        }
        _ => return Err(unfit()),
    }
    Ok(())
}

fn text_condition(query: &mut Statement, sql: &str, operator: Operator, folded: &str) {
    let Some(sign) = sign(operator) else { return contains(query, sql, folded.to_owned()) };
    query.add(sql);
    query.add(sign);
    query.add_value(folded);
}

fn contains(query: &mut Statement, sql: &str, part: String) {
    query.add_position();
    query.add(&format!("({sql}, "));
    query.add_value(part);
    query.add(") > 0");
}

/// Words and codes are ASCII: the database folds both sides.
fn word_condition(query: &mut Statement, sql: &str, operator: Operator, text: &str) {
    text_condition(query, &format!("lower({sql})"), operator, &text.to_ascii_lowercase());
}

fn sign(operator: Operator) -> Option<&'static str> {
    Some(match operator {
        Operator::Equal => " = ",
        Operator::NotEqual => " <> ",
        Operator::Less => " < ",
        Operator::LessOrEqual => " <= ",
        Operator::Greater => " > ",
        Operator::GreaterOrEqual => " >= ",
        Operator::Contains => return None,
    })
}
