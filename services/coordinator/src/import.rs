//! The import of mailboxes: CSV becomes rows, all of them or none, and every error says row, column and what is allowed.
//!
//! The file is UTF-8 (a byte order mark may stand first), separated by commas; the first row names the columns. A row
//! is known by the line of the file on which it begins, so the header is row 1, as in a spreadsheet. Blank rows are
//! skipped.

use std::{collections::HashMap, fmt, str::FromStr};

use mailyard_policy::{
    Reason, Timestamp,
    id::{MailboxId, ProfileId},
    operation::{Kind, Method},
};
use mailyard_store::people::{MailboxKind, NewMailbox, Profile};

use crate::filter::{nearest, parse_time, shown};

/// A larger file is refused; bytes.
pub const MAX_BYTES: usize = 32 * 1024 * 1024;
/// More mailboxes in one file are refused.
pub const MAX_ROWS: usize = 100_000;
/// So many problems are listed; the others are only counted.
pub const MAX_PROBLEMS: usize = 20;

const REQUIRED: [&str; 7] = ["address", "display_name", "kind", "profile", "incoming", "outgoing", "act"];
const OPTIONAL: [&str; 3] = ["owner_email", "crm_id", "process_email_from"];
const LONGEST_ADDRESS: usize = 254;
const LONGEST_TEXT: usize = 256;

/// One mailbox as the file describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The line of the file on which it begins; the header is 1.
    pub row: u64,
    /// Its address.
    pub address: String,
    /// Its name for people; the address if the cell is empty.
    pub display_name: String,
    /// user, queue or forward.
    pub kind: MailboxKind,
    /// The name of its profile; `None`: the default of the settings.
    pub profile: Option<String>,
    /// Its methods in the order of [`Kind::ALL`]; `None`: the default of the settings.
    pub methods: [Option<Method>; 3],
    /// Whom its alerts concern.
    pub owner_email: Option<String>,
    /// The CRM's key.
    pub crm_id: Option<String>,
    /// Mail received before this moment is left alone.
    pub process_email_from: Option<Timestamp>,
}

/// One thing that is wrong with the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The row; `None`: the file as a whole.
    pub row: Option<u64>,
    /// The column; `None`: the row as a whole.
    pub column: Option<String>,
    /// `FIELD_INVALID`, `METHOD_NOT_SUPPORTED`, `RESOURCE_ALREADY_EXISTS` or `RESOURCE_NOT_FOUND`.
    pub reason: Reason,
    /// What is wrong and what is allowed.
    pub detail: String,
}

/// Nothing was imported, and why: never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ImportError {
    /// The first [`MAX_PROBLEMS`] problems in the order of the file.
    pub problems: Vec<Problem>,
    /// How many there are in all.
    pub total: usize,
}

impl ImportError {
    /// The reason of the first problem, for callers that show one.
    pub fn reason(&self) -> Reason {
        self.problems.first().map_or(Reason::FieldInvalid, |problem| problem.reason)
    }
}

impl fmt::Display for ImportError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("nothing was imported")?;
        for problem in &self.problems {
            write!(out, "\n{problem}")?;
        }
        match self.total.saturating_sub(self.problems.len()) {
            0 => Ok(()),
            more => write!(out, "\nand {more} more"),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.row, &self.column) {
            (Some(row), Some(column)) => write!(out, "row {row}, column {column}: {}", self.detail),
            (Some(row), None) => write!(out, "row {row}: {}", self.detail),
            (None, Some(column)) => write!(out, "column {column}: {}", self.detail),
            (None, None) => out.write_str(&self.detail),
        }
    }
}

/// Reads the file.
pub fn parse(file: &[u8]) -> Result<Vec<Row>, ImportError> {
    let mut problems = Problems::default();
    let rows = read(file, &mut problems);
    problems.find_duplicates(&rows);
    if rows.is_empty() {
        problems.file("it holds no mailbox: one row per mailbox is expected below the row of column names");
    }
    problems.or(rows)
}

/// Turns rows into new mailboxes: looks up their profiles by name, ignoring case, and fills in the defaults of the
/// settings. `new_id` is asked once per row.
pub fn resolve(
    rows: &[Row],
    profiles: &[Profile],
    default_profile: Option<ProfileId>,
    default_methods: [Method; 3],
    mut new_id: impl FnMut() -> MailboxId,
) -> Result<Vec<NewMailbox>, ImportError> {
    let by_name: HashMap<String, ProfileId> =
        profiles.iter().map(|profile| (profile.display_name.to_lowercase(), profile.id)).collect();
    let mut problems = Problems::default();
    let mut mailboxes = Vec::with_capacity(rows.len());
    for row in rows {
        let profile = match &row.profile {
            None => default_profile,
            Some(name) => {
                let found = by_name.get(&name.to_lowercase()).copied();
                if found.is_none() {
                    problems.unknown_profile(row.row, name, profiles);
                }
                found
            }
        };
        let mut methods = default_methods;
        methods.iter_mut().zip(row.methods).for_each(|(method, set)| *method = set.unwrap_or(*method));
        mailboxes.push(NewMailbox {
            id: new_id(),
            address: row.address.clone(),
            display_name: row.display_name.clone(),
            kind: row.kind,
            profile,
            methods,
            owner_email: row.owner_email.clone(),
            crm_id: row.crm_id.clone(),
            process_email_from: row.process_email_from,
        });
    }
    problems.or(mailboxes)
}

/// What the store refused, as a problem of the file. `field` is the store's, such as `rows[3].address`.
pub fn refused(rows: &[Row], field: &str, reason: Reason, detail: &str) -> ImportError {
    let place = field.strip_prefix("rows[").and_then(|rest| rest.split_once("]."));
    let row = place.and_then(|(index, _)| rows.get(index.parse::<usize>().ok()?)).map(|row| row.row);
    let column = place.map(|(_, column)| column.to_owned());
    ImportError { problems: vec![Problem { row, column, reason, detail: detail.to_owned() }], total: 1 }
}

/// True if mail can be addressed so: one mailbox, no name beside it, no comment, at most 254 characters.
pub(crate) fn is_address(text: &str) -> bool {
    text.len() <= LONGEST_ADDRESS
        && !text.contains(|c: char| {
            c.is_whitespace() || c.is_control() || matches!(c, '"' | '<' | '>' | '[' | ']')
        })
        && lettre::Address::from_str(text).is_ok()
}

fn read(file: &[u8], problems: &mut Problems) -> Vec<Row> {
    if file.len() > MAX_BYTES {
        problems.file(format!("it is larger than {} MiB; divide it", MAX_BYTES / 1024 / 1024));
        return Vec::new();
    }
    if file.starts_with(b"\xff\xfe") || file.starts_with(b"\xfe\xff") {
        problems.file("it is UTF-16; save it as UTF-8 (in a spreadsheet: \"CSV UTF-8\")");
        return Vec::new();
    }
    let file = file.strip_prefix(b"\xef\xbb\xbf").unwrap_or(file);
    let mut lines = Lines { file, at: 0, line: 1 };
    let mut reader =
        csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(file).into_byte_records();
    let Some(columns) = reader.next().and_then(|record| header(&record.ok()?, problems)) else {
        if problems.total == 0 {
            problems.file(format!("it is empty; the first row names the columns {}", REQUIRED.join(",")));
        }
        return Vec::new();
    };
    let mut rows = Vec::new();
    for record in reader {
        // Reading from memory does not fail, and rows of any length are accepted here: `cells` counts.
        let Ok(record) = record else { continue };
        let row = lines.line_of(record.position().map_or(0, csv::Position::byte));
        if record.iter().all(|cell| cell.trim_ascii().is_empty()) {
            continue;
        }
        if rows.len() == MAX_ROWS {
            problems.file(format!("it holds more than {MAX_ROWS} mailboxes; divide it"));
            break;
        }
        if let Some(cells) = cells(row, &columns, &record, problems) {
            rows.push(cells.row(problems));
        }
    }
    rows
}

/// The names of the columns in the order of the file; `None`: there is a problem with them.
fn header(record: &csv::ByteRecord, problems: &mut Problems) -> Option<Vec<&'static str>> {
    let known = || REQUIRED.into_iter().chain(OPTIONAL);
    let names: Vec<String> =
        record.iter().map(|cell| String::from_utf8_lossy(cell.trim_ascii()).into_owned()).collect();
    if let [name] = names.as_slice()
        && let Some(separator) = [';', '\t'].into_iter().find(|separator| name.contains(*separator))
    {
        problems
            .file(format!("its columns are separated by {separator:?}; they must be separated by commas"));
        return None;
    }
    let before = problems.total;
    let mut columns = Vec::new();
    for name in &names {
        match known().find(|column| column == name) {
            Some(column) if columns.contains(&column) => {
                problems.add(Some(1), Some(column), Reason::FieldInvalid, "the column stands there twice");
            }
            Some(column) => columns.push(column),
            None => {
                let hint = nearest(name, known()).map(|near| format!("; did you mean {near}?"));
                let detail = format!(
                    "there is no such column{} (required: {}; optional: {})",
                    hint.unwrap_or_default(),
                    REQUIRED.join(", "),
                    OPTIONAL.join(", ")
                );
                problems.add(Some(1), Some(shown(name).trim_matches('"')), Reason::FieldInvalid, detail);
            }
        }
    }
    for column in REQUIRED.into_iter().filter(|column| !columns.contains(column)) {
        problems.add(Some(1), Some(column), Reason::FieldInvalid, "the column is missing");
    }
    (problems.total == before).then_some(columns)
}

/// The cells of one row by column, if they are as many as the columns and texts.
fn cells<'a>(
    row: u64,
    columns: &'a [&'static str],
    record: &'a csv::ByteRecord,
    problems: &mut Problems,
) -> Option<Cells<'a>> {
    if record.len() != columns.len() {
        let detail = format!(
            "it has {} fields, the row of column names has {}; a text with commas must stand in double quotes",
            record.len(),
            columns.len()
        );
        problems.add(Some(row), None, Reason::FieldInvalid, detail);
        return None;
    }
    let mut texts = Vec::with_capacity(columns.len());
    for (column, cell) in columns.iter().zip(record) {
        let Ok(text) = str::from_utf8(cell) else {
            let detail = "it is not UTF-8; save the file as UTF-8 (in a spreadsheet: \"CSV UTF-8\")";
            problems.add(Some(row), Some(column), Reason::FieldInvalid, detail);
            return None;
        };
        let text = text.trim();
        if text.contains(char::is_control) {
            let detail = format!(
                "{} holds a line break or another control character; is a double quote not closed?",
                shown(text)
            );
            problems.add(Some(row), Some(column), Reason::FieldInvalid, detail);
            return None;
        }
        texts.push((*column, text));
    }
    Some(Cells { row, texts })
}

struct Cells<'a> {
    row: u64,
    texts: Vec<(&'static str, &'a str)>,
}

impl Cells<'_> {
    /// The row; where a cell is wrong the problem is noted, and the row is thrown away with all others.
    fn row(&self, problems: &mut Problems) -> Row {
        let address = self.address("address", problems);
        if address.is_none() && self.text("address").is_none() {
            self.wrong("address", "it is empty; an address is required", problems);
        }
        let address = address.unwrap_or_default();
        Row {
            row: self.row,
            display_name: self.short("display_name", problems).unwrap_or_else(|| address.clone()),
            address,
            kind: self.kind(problems),
            profile: self.short("profile", problems),
            methods: Kind::ALL.map(|kind| self.method(kind, problems)),
            owner_email: self.address("owner_email", problems),
            crm_id: self.short("crm_id", problems),
            process_email_from: self.time("process_email_from", problems),
        }
    }

    fn kind(&self, problems: &mut Problems) -> MailboxKind {
        match self.text("kind").unwrap_or_default() {
            "user" => MailboxKind::User,
            "queue" => MailboxKind::Queue,
            "forward" => MailboxKind::Forward,
            other => {
                self.wrong("kind", format!("{} is none of user, queue, forward", shown(other)), problems);
                MailboxKind::User
            }
        }
    }

    fn method(&self, kind: Kind, problems: &mut Problems) -> Option<Method> {
        let column = kind.word();
        let text = self.text(column)?;
        let refused = match (text.parse(), kind) {
            (Err(_), _) => {
                self.wrong(column, format!("{} is none of none, sss, forward", shown(text)), problems);
                return None;
            }
            (Ok(Method::Forward), _) => "forwarding mailboxes are not supported",
            (Ok(Method::ServerSide), Kind::Act) => "appointments, contacts and tasks are not synchronized",
            (Ok(method), _) => return Some(method),
        };
        let allowed = if kind == Kind::Act { "none" } else { "none or sss" };
        let detail = format!("{refused} by this version of Mailyard; {allowed} is allowed here");
        problems.add(Some(self.row), Some(column), Reason::MethodNotSupported, detail);
        None
    }

    fn address(&self, column: &str, problems: &mut Problems) -> Option<String> {
        let text = self.text(column)?;
        if !is_address(text) {
            let detail =
                format!("{} is no email address; one such as anna@example.com is expected", shown(text));
            self.wrong(column, detail, problems);
            return None;
        }
        Some(text.to_owned())
    }

    fn short(&self, column: &str, problems: &mut Problems) -> Option<String> {
        let text = self.text(column)?;
        if text.chars().count() > LONGEST_TEXT {
            self.wrong(column, format!("it is longer than {LONGEST_TEXT} characters"), problems);
        }
        Some(text.to_owned())
    }

    fn time(&self, column: &str, problems: &mut Problems) -> Option<Timestamp> {
        let text = self.text(column)?;
        let time = parse_time(text);
        if time.is_none() {
            let detail = format!(
                "{} is no time; one such as 2026-03-01T12:00:00Z or a date such as 2026-03-01 is expected",
                shown(text)
            );
            self.wrong(column, detail, problems);
        }
        time
    }

    /// What stands in the column; `None`: nothing, or the file has no such column.
    fn text(&self, column: &str) -> Option<&str> {
        let (_, text) = self.texts.iter().find(|(name, _)| *name == column)?;
        (!text.is_empty()).then_some(*text)
    }

    fn wrong(&self, column: &str, detail: impl Into<String>, problems: &mut Problems) {
        problems.add(Some(self.row), Some(column), Reason::FieldInvalid, detail);
    }
}

/// Counts lines up to a byte of the file. The reader's own count is short of one where lines end in CR LF or are blank.
struct Lines<'a> {
    file: &'a [u8],
    at: usize,
    line: u64,
}

impl Lines<'_> {
    fn line_of(&mut self, byte: u64) -> u64 {
        let byte = usize::try_from(byte).unwrap_or(usize::MAX).min(self.file.len());
        while let Some(&next) = self.file.get(self.at)
            && (self.at < byte || next == b'\r' || next == b'\n')
        {
            let ends = next == b'\n' || (next == b'\r' && self.file.get(self.at + 1) != Some(&b'\n'));
            self.line += u64::from(ends);
            self.at += 1;
        }
        self.line
    }
}

#[derive(Default)]
struct Problems {
    listed: Vec<Problem>,
    total: usize,
}

impl Problems {
    fn add(&mut self, row: Option<u64>, column: Option<&str>, reason: Reason, detail: impl Into<String>) {
        self.total += 1;
        if self.listed.len() < MAX_PROBLEMS {
            let column = column.map(str::to_owned);
            self.listed.push(Problem { row, column, reason, detail: detail.into() });
        }
    }

    fn file(&mut self, detail: impl Into<String>) {
        if self.total == 0 {
            self.add(None, None, Reason::FieldInvalid, format!("the file: {}", detail.into()));
        }
    }

    fn unknown_profile(&mut self, row: u64, name: &str, profiles: &[Profile]) {
        let near = nearest(name, profiles.iter().map(|profile| profile.display_name.as_str()));
        let hint = near.map_or("create it first".to_owned(), |near| format!("did you mean {near:?}?"));
        let detail = format!("there is no profile {}; {hint}", shown(name));
        self.add(Some(row), Some("profile"), Reason::ResourceNotFound, detail);
    }

    fn find_duplicates(&mut self, rows: &[Row]) {
        let mut first: HashMap<String, u64> = HashMap::with_capacity(rows.len());
        for row in rows.iter().filter(|row| !row.address.is_empty()) {
            if let Some(other) = first.get(&row.address.to_lowercase()) {
                let detail = format!("{} stands in row {other} already", shown(&row.address));
                self.add(Some(row.row), Some("address"), Reason::ResourceAlreadyExists, detail);
            } else {
                first.insert(row.address.to_lowercase(), row.row);
            }
        }
    }

    fn or<T>(self, value: T) -> Result<T, ImportError> {
        if self.total == 0 {
            return Ok(value);
        }
        let mut problems = self.listed;
        problems.sort_by_key(|problem| problem.row);
        Err(ImportError { problems, total: self.total })
    }
}

#[cfg(test)]
mod tests;
