//! Filters: what is read, where errors point, what is bounded.

use mailyard_store::query::{EMAIL_FIELDS, MAILBOX_FIELDS};
use proptest::prelude::*;

use super::*;

/// The filter in one line, so that a table can hold it.
fn line(filter: &Filter) -> String {
    let all = |parts: &[Filter]| parts.iter().map(line).collect::<Vec<_>>().join(" ");
    match filter {
        Filter::All => "all".to_owned(),
        Filter::And(parts) => format!("(and {})", all(parts)),
        Filter::Or(parts) => format!("(or {})", all(parts)),
        Filter::Not(part) => format!("(not {})", line(part)),
        Filter::Compare { field, operator, value } => match value {
            Value::Text(text) => format!("{field} {operator:?} {text:?}"),
            Value::Number(number) => format!("{field} {operator:?} {number}"),
            Value::Time(time) => format!("{field} {operator:?} {time}"),
            Value::Flag(flag) => format!("{field} {operator:?} {flag}"),
        },
    }
}

#[test]
fn filters_are_read() {
    for (text, expected) in [
        ("", "all"),
        ("  \t", "all"),
        (r#"state = "failing" AND profile = "x""#, r#"(and state Equal "failing" profile Equal "x")"#),
        (r#"address:"foo""#, r#"address Contains "foo""#),
        ("state:FAILING", r#"state Equal "failing""#),
        ("address=a@b.test OR(address='c d')", r#"(or address Equal "a@b.test" address Equal "c d")"#),
        ("NOT -state=ok", r#"(not (not state Equal "ok"))"#),
        (
            "(state=ok OR state=failing) AND NOT (profile:x)",
            r#"(and (or state Equal "ok" state Equal "failing") (not profile Contains "x"))"#,
        ),
        ("((state!=ok))", r#"state NotEqual "ok""#),
        (r#"profile = "a \"b\" \\ c""#, r#"profile Equal "a \"b\" \\ c""#),
        ("profile = ''", r#"profile Equal """#),
        ("create_time >= 2026-03-01", "create_time GreaterOrEqual 2026-03-01T00:00:00.000Z"),
        ("create_time < 2026-03-01T12:00:00.25+02:00", "create_time Less 2026-03-01T10:00:00.250Z"),
    ] {
        assert_eq!(
            parse(text, MAILBOX_FIELDS).map(|filter| line(&filter)).as_deref(),
            Ok(expected),
            "{text}"
        );
    }
    assert_eq!(parse("size>1000", EMAIL_FIELDS).map(|f| line(&f)).as_deref(), Ok("size Greater 1000"));
}

#[test]
fn errors_say_where_and_what() {
    for (text, column, part, nearest) in [
        ("stat = ok", 1, "did you mean state?", Some("state")),
        ("state = ok AND colour = red", 16, "no field \"colour\"", None),
        ("state = faling", 9, "one of not_eligible, ok, failing", Some("failing")),
        ("state > ok", 7, "= !=", None),
        ("address < b", 9, "= != :", None),
        ("create_time : 2026-03-01", 13, "= != < <= > >=", None),
        ("create_time > yesterday", 15, "2026-03-01T12:00:00Z", None),
        ("state = ok and state = ok", 12, "capitals", None),
        ("state = ok AND state = ok OR state = ok", 27, "parentheses", None),
        ("(state = ok", 1, "not closed", None),
        ("(state = ok state", 13, "closing parenthesis", None),
        ("state = ok)", 11, "closes none", None),
        ("state = ok AND", 15, "a comparison", None),
        ("state", 6, "one of = !=", None),
        ("state =", 8, "a value", None),
        ("profile == x", 10, "a value", None),
        ("profile = \"x", 11, "not closed", None),
        ("profile = \"\\n\"", 12, "backslash", None),
        ("profile = *", 11, "wildcards", None),
        ("profile = \"ä\" ö", 15, "AND, OR or the end", None),
        ("failing", 1, "no field", None),
    ] {
        let error = parse(text, MAILBOX_FIELDS).expect_err(text);
        assert_eq!((error.column, error.nearest), (column, nearest), "{text}: {error}");
        assert!(error.detail.contains(part), "{text}: {error}");
        let unknown = error.detail.starts_with("there is no field");
        let reason = if unknown { Reason::FilterFieldUnknown } else { Reason::FilterInvalid };
        assert_eq!(error.reason, reason, "{text}");
    }
}

#[test]
fn length_depth_and_number_are_bounded() {
    let nested = |levels| format!("{}state=ok{}", "(".repeat(levels), ")".repeat(levels));
    let many = |count| vec!["state=ok"; count].join(" AND ");
    for (good, bad) in [
        (nested(MAX_DEPTH), nested(MAX_DEPTH + 1)),
        (format!("{}state=ok", "-".repeat(MAX_DEPTH)), format!("{}state=ok", "NOT ".repeat(900))),
        (many(MAX_COMPARISONS), many(MAX_COMPARISONS + 1)),
        (format!("{:MAX_LENGTH$}", "state=ok"), format!("{:MAX_LENGTH$} ", "state=ok")),
    ] {
        assert!(parse(&good, MAILBOX_FIELDS).is_ok(), "{good}");
        assert!(parse(&bad, MAILBOX_FIELDS).is_err(), "{bad}");
    }
}

#[test]
fn values_of_a_profile_are_compared() {
    let text = |text: &str| Value::Text(text.to_owned());
    let time = |millis| Value::Time(Timestamp::from_millis(millis));
    for (have, operator, want, expected) in [
        (text("Contoso"), Operator::Equal, text("contoso"), true),
        (text("Contoso"), Operator::Contains, text("TOS"), true),
        (text("Contoso"), Operator::NotEqual, text("contoso"), false),
        (time(5), Operator::Less, time(6), true),
        (time(6), Operator::LessOrEqual, time(6), true),
        (Value::Number(7), Operator::Greater, Value::Number(7), false),
        (Value::Number(7), Operator::GreaterOrEqual, Value::Number(7), true),
        (Value::Flag(true), Operator::Equal, Value::Flag(true), true),
        (Value::Flag(true), Operator::Equal, text("true"), false),
    ] {
        assert_eq!(compare(&have, operator, &want), expected, "{have:?} {operator:?} {want:?}");
    }
}

proptest! {
    #[test]
    fn nothing_panics_and_columns_lie_in_the_text(text in r#"([a-z="'\\():<>!ä -]|state|AND|OR|NOT ){0,40}"#) {
        if let Err(error) = parse(&text, MAILBOX_FIELDS) {
            prop_assert!(error.column <= text.chars().count() + 1);
        }
    }

    #[test]
    fn any_text_survives_quoting(value in "\\PC{0,20}") {
        let quoted = value.replace('\\', "\\\\").replace('"', "\\\"");
        let filter = parse(&format!("subject = \"{quoted}\""), EMAIL_FIELDS);
        let expected = Filter::Compare { field: "subject", operator: Operator::Equal, value: Value::Text(value) };
        prop_assert_eq!(filter, Ok(expected));
    }
}
