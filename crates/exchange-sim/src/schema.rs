//! What the schema says of requests: the order of elements, their number, attributes and values, as Exchange checks them
//! before anything else.

mod facts;
mod simple;
mod since;
#[cfg(test)]
mod tests;

use self::facts::{Attribute, Facts, Kind, Model, Part, Particle};
use crate::xml::{Element, Space};

/// Where a request breaks the schema, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    pub offset: usize,
    pub what: String,
}

impl Violation {
    fn at(element: &Element, what: String) -> Self {
        Self { offset: element.offset, what }
    }
}

/// Checks the headers and the operation of a request. Headers that the schema does not know are nobody's business.
pub(crate) fn validate_request(header: Option<&Element>, operation: &Element) -> Result<(), Violation> {
    let facts = facts::facts();
    for child in header.map_or(&[][..], |header| &header.children) {
        if let Some(kind) = facts.element(child) {
            check(facts, child, kind)?;
        }
    }
    match facts.element(operation) {
        Some(kind) => check(facts, operation, kind),
        None => Err(Violation::at(operation, format!("'{}' is not known", name(operation)))),
    }
}

/// The newest version that a server of 2013 knows.
pub(crate) const VERSION_2013: &str = "Exchange2013_SP1";

pub(crate) use self::since::newer_than;

/// True if this is a version that a request may name.
pub(crate) fn is_version(text: &str) -> bool {
    let facts = facts::facts();
    facts.named("t:ExchangeVersionType").is_some_and(|kind| simple::check(facts, kind, text).is_ok())
}

fn check(facts: &Facts, element: &Element, kind: usize) -> Result<(), Violation> {
    let (model, attributes) = match facts.kind(kind) {
        Some(Kind::Complex { model, attributes }) => (model, attributes.as_slice()),
        _ => (&Model::Text(kind), &[][..]),
    };
    check_attributes(facts, element, attributes)?;
    match model {
        Model::Text(kind) => {
            if let Some(child) = element.children.first() {
                return Err(unexpected(child, element, &[]));
            }
            let told = |what| Violation::at(element, format!("the value of '{}': {what}", name(element)));
            simple::check(facts, *kind, &element.text).map_err(told)
        }
        Model::Parts(parts) => {
            if !element.text.trim().is_empty() {
                let what = format!("'{}' must not contain text", name(element));
                return Err(Violation::at(element, what));
            }
            let mut place = Place { facts, parent: element, at: 0 };
            for part in parts {
                place.particle(part)?;
            }
            let left = element.children.get(place.at);
            left.map_or(Ok(()), |child| Err(unexpected(child, element, parts)))
        }
    }
}

fn check_attributes(facts: &Facts, element: &Element, known: &[Attribute]) -> Result<(), Violation> {
    // What has a prefix belongs to XML, to instances of schemas or to SOAP.
    for (key, value) in element.attributes.iter().filter(|(key, _)| !key.contains(':')) {
        let Some(attribute) = known.iter().find(|attribute| attribute.name == key) else {
            let what = format!("the attribute '{key}' is not known in '{}'", name(element));
            return Err(Violation::at(element, what));
        };
        simple::check(facts, attribute.kind, value).map_err(|what| {
            Violation::at(element, format!("the attribute '{key}' of '{}': {what}", name(element)))
        })?;
    }
    let missing = known.iter().find(|known| known.required && element.attribute(known.name).is_none());
    missing.map_or(Ok(()), |missing| {
        let what = format!("the required attribute '{}' of '{}' is missing", missing.name, name(element));
        Err(Violation::at(element, what))
    })
}

/// How far the children of an element have been read.
struct Place<'a> {
    facts: &'a Facts,
    parent: &'a Element,
    at: usize,
}

impl<'a> Place<'a> {
    fn next(&self) -> Option<&'a Element> {
        self.parent.children.get(self.at)
    }

    /// Reads as many children as a particle takes. The schema is deterministic: the next child says which way to go.
    fn particle(&mut self, particle: &Particle) -> Result<(), Violation> {
        let mut times = 0;
        while times < particle.most && self.next().is_some_and(|child| particle.begins_with(child)) {
            self.once(&particle.part)?;
            times += 1;
        }
        if times >= particle.least || particle.part.may_be_empty() {
            return Ok(());
        }
        Err(self.missing(particle))
    }

    fn once(&mut self, part: &Part) -> Result<(), Violation> {
        match part {
            Part::Element { kind, .. } => {
                let child = self.next();
                self.at += 1;
                child.map_or(Ok(()), |child| check(self.facts, child, *kind))
            }
            Part::Sequence(parts) => parts.iter().try_for_each(|part| self.particle(part)),
            Part::Choice(parts) => {
                let chosen = self
                    .next()
                    .and_then(|child| parts.iter().find(|particle| particle.begins_with(child)))
                    .or_else(|| parts.iter().find(|particle| particle.may_be_empty()));
                chosen.map_or(Ok(()), |particle| self.particle(particle))
            }
        }
    }

    fn missing(&self, particle: &Particle) -> Violation {
        let mut expected = Vec::new();
        particle.beginnings(&mut expected);
        let (parent, expected) = (name(self.parent), simple::few(&expected, 4));
        match self.next() {
            Some(child) => {
                let what = format!("'{}' stands in '{parent}' where {expected} is expected", name(child));
                Violation::at(child, what)
            }
            None => Violation::at(self.parent, format!("'{parent}' is incomplete: {expected} is expected")),
        }
    }
}

fn unexpected(child: &Element, parent: &Element, parts: &[Particle]) -> Violation {
    let known = parts.iter().any(|particle| particle.mentions(child));
    let why = if known { "is out of order or there are too many" } else { "is not known there" };
    Violation::at(child, format!("'{}' is not expected in '{}': it {why}", name(child), name(parent)))
}

/// An element's name with the prefix that everybody uses.
fn name(element: &Element) -> String {
    let prefix = match element.space {
        Space::Messages => "m:",
        Space::Types => "t:",
        Space::Soap => "s:",
        Space::Addressing | Space::Autodiscover | Space::Outlook | Space::Other => "",
    };
    format!("{prefix}{}", element.name)
}
