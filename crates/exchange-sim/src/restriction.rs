//! Conditions of a search, and the order of its results.

use std::cmp::Ordering;

use crate::{
    item::Item,
    property::{self, Path, Value},
    xml::Element,
};

/// What a property of the thing in question compares as; `None`: it has none.
pub(crate) type Properties<'a> = &'a dyn Fn(&Path) -> Option<Value>;

/// True if an item or a folder fulfils the condition inside a `Restriction` (or inside another condition).
pub(crate) fn holds(condition: &Element, item: Properties<'_>) -> bool {
    let inner = |condition: &Element| condition.children.first().is_none_or(|inner| holds(inner, item));
    match condition.name.as_str() {
        "Restriction" => inner(condition),
        "And" => condition.children.iter().all(|inner| holds(inner, item)),
        "Or" => condition.children.iter().any(|inner| holds(inner, item)),
        "Not" => !inner(condition),
        "Exists" => found(condition, item).is_some(),
        "Contains" => contains(condition, item),
        "Excludes" => excludes(condition, item),
        "IsEqualTo" => compare(condition, item) == Some(Ordering::Equal),
        "IsNotEqualTo" => compare(condition, item) != Some(Ordering::Equal),
        "IsGreaterThan" => compare(condition, item) == Some(Ordering::Greater),
        "IsGreaterThanOrEqualTo" => compare(condition, item).is_some_and(Ordering::is_ge),
        "IsLessThan" => compare(condition, item) == Some(Ordering::Less),
        "IsLessThanOrEqualTo" => compare(condition, item).is_some_and(Ordering::is_le),
        _ => false,
    }
}

fn found(condition: &Element, item: Properties<'_>) -> Option<Value> {
    item(&Path::inside(condition)?)
}

/// Texts are compared without regard to case, as the store does; ids and keys are texts in base64 and are not.
fn compare(condition: &Element, item: Properties<'_>) -> Option<Ordering> {
    let value = found(condition, item)?;
    let other = condition.child("FieldURIOrConstant")?;
    let other = match other.child("Constant") {
        Some(constant) => property::constant(constant.attribute("Value")?, &value)?,
        None => item(&Path::inside(other)?)?,
    };
    let binary = condition.children.iter().any(|child| child.attribute("PropertyType") == Some("Binary"));
    match (&value, &other) {
        (Value::Text(one), Value::Text(two)) if !binary => Some(one.to_lowercase().cmp(&two.to_lowercase())),
        _ => value.partial_cmp(&other),
    }
}

fn contains(condition: &Element, item: Properties<'_>) -> bool {
    let Some(Value::Text(text)) = found(condition, item) else { return false };
    let Some(wanted) = condition.child("Constant").and_then(|constant| constant.attribute("Value")) else {
        return false;
    };
    let exact = condition.attribute("ContainmentComparison") == Some("Exact");
    let (text, wanted) =
        if exact { (text, wanted.to_owned()) } else { (text.to_lowercase(), wanted.to_lowercase()) };
    match condition.attribute("ContainmentMode") {
        Some("FullString") => text == wanted,
        Some("Prefixed" | "PrefixOnWords") => text.starts_with(&wanted),
        Some("ExactPhrase") => text.split_whitespace().any(|word| word == wanted) || text == wanted,
        _ => text.contains(&wanted),
    }
}

fn excludes(condition: &Element, item: Properties<'_>) -> bool {
    let mask = condition.child("Bitmask").and_then(|mask| mask.attribute("Value")).unwrap_or_default();
    let mask = mask
        .strip_prefix("0x")
        .map_or_else(|| mask.parse().ok(), |digits| i64::from_str_radix(digits, 16).ok());
    match (found(condition, item), mask) {
        (Some(Value::Number(number)), Some(mask)) => number & mask == 0,
        _ => true,
    }
}

/// Sorts by a `SortOrder`; items without the property come last. Without an order the newest come first.
pub(crate) fn sort(order: Option<&Element>, items: &mut [&Item]) {
    let newest_first =
        |one: &&Item, two: &&Item| two.received.cmp(&one.received).then(two.number.cmp(&one.number));
    let Some(order) = order else { return items.sort_by(newest_first) };
    items.sort_by(|one, two| {
        for field in &order.children {
            let Some(path) = Path::inside(field) else { continue };
            let descending = field.attribute("Order") == Some("Descending");
            let ordering = match (property::value(one, &path), property::value(two, &path)) {
                (Some(one), Some(two)) => {
                    let ordering = one.partial_cmp(&two).unwrap_or(Ordering::Equal);
                    if descending { ordering.reverse() } else { ordering }
                }
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => Ordering::Equal,
            };
            if ordering != Ordering::Equal {
                return ordering;
            }
        }
        one.number.cmp(&two.number)
    });
}
