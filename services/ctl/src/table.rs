//! Tables and pages for people: columns as wide as what stands in them, words instead of colours.

use unicode_width::UnicodeWidthStr as _;

use crate::object::{Object, Value};

/// A column: its heading, and the paths of which the first that leads to something is shown.
pub(crate) type Column = (&'static str, &'static [&'static str]);

/// Stands where nothing is to be shown.
const ABSENT: &str = "-";

/// Objects as rows.
pub(crate) fn table(objects: &[Object], columns: &[Column]) -> String {
    let headings = columns.iter().map(|(heading, _)| (*heading).to_owned()).collect();
    let cell = |object: &Object, paths: &[&str]| {
        let mut values = paths.iter().filter_map(|path| object.get(path)).map(Value::shown);
        values.find(|text| !text.is_empty()).unwrap_or_else(|| ABSENT.to_owned())
    };
    let row = |object: &Object| columns.iter().map(|(_, paths)| cell(object, paths)).collect();
    aligned(&std::iter::once(headings).chain(objects.iter().map(row)).collect::<Vec<_>>())
}

/// One object as a page: its plain values line by line, then a table of each list in it.
pub(crate) fn page(object: &Object) -> String {
    let mut lines = Vec::new();
    let mut tables = String::new();
    for (key, value) in object.entries() {
        match value {
            Value::Objects(objects) if objects.is_empty() => {}
            Value::Objects(objects) => tables.push_str(&format!("\n{}:\n{}", spaced(key), list(objects))),
            Value::Object(inner) => tables.push_str(&format!("\n{}:\n{}", spaced(key), nested(inner))),
            plain => {
                let text = plain.shown();
                lines.push(vec![spaced(key), if text.is_empty() { ABSENT.to_owned() } else { text }]);
            }
        }
    }
    aligned(&lines) + &tables
}

/// An object in an object: a table if it holds objects itself.
fn nested(object: &Object) -> String {
    let named: Vec<Object> = object
        .entries()
        .iter()
        .filter_map(|(key, value)| match value {
            Value::Object(inner) => Some(
                inner
                    .entries()
                    .iter()
                    .cloned()
                    .fold(Object::new().text("name", *key), |all, (key, value)| all.with(key, value)),
            ),
            _ => None,
        })
        .collect();
    if named.is_empty() { page(object) } else { list(&named) }
}

/// A table of all keys that any of the objects has.
fn list(objects: &[Object]) -> String {
    let mut keys: Vec<&'static str> = Vec::new();
    for (key, _) in objects.iter().flat_map(Object::entries) {
        if !keys.contains(key) {
            keys.push(key);
        }
    }
    let headings = keys.iter().map(|key| key.to_uppercase().replace('_', "-")).collect();
    let cell = |object: &Object, key: &str| {
        object.get(key).map(Value::shown).filter(|text| !text.is_empty()).unwrap_or_else(|| ABSENT.to_owned())
    };
    let row = |object: &Object| keys.iter().map(|key| cell(object, key)).collect();
    aligned(&std::iter::once(headings).chain(objects.iter().map(row)).collect::<Vec<_>>())
}

fn spaced(key: &str) -> String {
    key.replace('_', " ")
}

fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].width()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let blanks = width.saturating_sub(cell.width()) + 2;
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', blanks));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_what_stands_in_them() {
        let objects = [
            Object::new().text("name", "東京").number("count", 1_u64).text("last", "x"),
            Object::new()
                .text("name", "Head office")
                .flag("flag", true)
                .text("other", "evil \u{1b}[2J\u{9b}"),
            Object::new().text("lines", "a\nb").texts("last", vec!["a".into(), "b".into()]),
        ];
        let columns: &[Column] = &[
            ("NAME", &["name"]),
            ("COUNT", &["count"]),
            ("FLAG", &["flag"]),
            ("LINES", &["lines"]),
            ("LAST", &["missing", "last", "other"]),
        ];
        insta::assert_snapshot!(table(&objects, columns), @"
        NAME         COUNT  FLAG  LINES      LAST
        東京         1      -     -          x
        Head office  -      yes   -          evil  [2J
        -            -      -     (2 lines)  a, b
        ");
    }

    #[test]
    fn a_page_shows_lines_and_then_tables() {
        let state = |word: &str| Object::new().text("state", word).number("failures", 0_u64);
        let object = Object::new()
            .text("address", "ada@contoso.test")
            .texts("to", Vec::new())
            .object(
                "operations",
                Object::new().object("incoming", state("enabled")).object("act", state("off")),
            )
            .object("flags", Object::new().flag("one", true))
            .objects("cycles", vec![Object::new().number("duration_ms", 7_u64)])
            .objects("none", Vec::new())
            .flag("ready", false);
        insta::assert_snapshot!(page(&object), @"
        address  ada@contoso.test
        to       -
        ready    no

        operations:
        NAME      STATE    FAILURES
        incoming  enabled  0
        act       off      0

        flags:
        one  yes

        cycles:
        DURATION-MS
        7
        ");
    }
}
