//! The table of facts, read once. Its lines are `element`, `type` and `simple`, their fields divided by tabs; `tests/xsd`
//! makes them.

use std::{collections::HashMap, iter::Peekable, str::SplitWhitespace, sync::LazyLock};

use super::simple::Simple;
use crate::xml::{Element, Space};

const TABLE: &str = include_str!("../../schema.tsv");

/// What the schema says, types by number.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    kinds: Vec<Kind>,
    numbers: HashMap<&'static str, usize>,
    elements: Vec<(Space, &'static str, usize)>,
}

/// A type.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Simple(Simple),
    Complex { model: Model, attributes: Vec<Attribute> },
}

/// What may stand between the tags of an element.
#[derive(Clone, Debug)]
pub(crate) enum Model {
    /// A value of a simple type.
    Text(usize),
    /// Elements.
    Parts(Vec<Particle>),
}

/// How often something stands in a place.
#[derive(Clone, Debug)]
pub(crate) struct Particle {
    pub least: u32,
    pub most: u32,
    pub part: Part,
}

/// What stands in a place.
#[derive(Clone, Debug)]
pub(crate) enum Part {
    Element { space: Space, name: &'static str, kind: usize },
    Sequence(Vec<Particle>),
    Choice(Vec<Particle>),
}

/// An attribute of a type.
#[derive(Clone, Debug)]
pub(crate) struct Attribute {
    pub name: &'static str,
    pub required: bool,
    pub kind: usize,
}

/// The facts.
pub(crate) fn facts() -> &'static Facts {
    static FACTS: LazyLock<Facts> = LazyLock::new(|| Facts::read(TABLE).unwrap_or_default());
    &FACTS
}

impl Facts {
    /// The type of an element that may stand in a header or a body.
    pub fn element(&self, element: &Element) -> Option<usize> {
        let mut known = self.elements.iter();
        known
            .find(|(space, name, _)| *space == element.space && *name == element.name)
            .map(|(.., kind)| *kind)
    }

    /// A type by its name.
    pub fn named(&self, name: &str) -> Option<usize> {
        self.numbers.get(name).copied()
    }

    /// A type.
    pub fn kind(&self, number: usize) -> Option<&Kind> {
        self.kinds.get(number)
    }

    /// Reads the table; `None`: a line of it cannot be understood.
    pub fn read(table: &'static str) -> Option<Self> {
        let lines: Vec<Vec<&str>> = table
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split('\t').collect())
            .collect();
        let mut facts = Self::default();
        for fields in lines.iter().filter(|fields| fields[0] != "element") {
            let number = facts.numbers.len();
            facts.numbers.insert(fields.get(1)?, number);
        }
        let own = facts.numbers.len();
        let mut kinds: Vec<Option<Kind>> = vec![None; own];
        let mut bases: HashMap<usize, usize> = HashMap::new();
        for fields in &lines {
            match fields[..] {
                ["element", name, kind] => {
                    let (space, name) = qualified(name)?;
                    let kind = facts.number(kind);
                    facts.elements.push((space, name, kind));
                }
                ["simple", name, form, ref values @ ..] => {
                    let simple = Simple::read(form, values, |name| facts.number(name))?;
                    let number = facts.number(name);
                    *kinds.get_mut(number)? = Some(Kind::Simple(simple));
                }
                ["type", name, base, model, ref attributes @ ..] => {
                    let kind = facts.complex(model, attributes)?;
                    let number = facts.number(name);
                    *kinds.get_mut(number)? = Some(kind);
                    if base != "-" {
                        bases.insert(number, facts.number(base));
                    }
                }
                _ => return None,
            }
        }
        facts.finish(kinds, &bases)
    }

    /// Gives every type what it has of its bases. Types of XML Schema itself come behind those of the table.
    fn finish(mut self, kinds: Vec<Option<Kind>>, bases: &HashMap<usize, usize>) -> Option<Self> {
        let kinds: Vec<Kind> = kinds.into_iter().collect::<Option<_>>()?;
        for number in 0..kinds.len() {
            let mut chain = vec![number];
            while let Some(base) = bases.get(chain.last()?) {
                chain.push(*base);
            }
            let mut all = kinds.get(number)?.clone();
            for base in chain.iter().skip(1) {
                all = inherit(kinds.get(*base)?, all)?;
            }
            self.kinds.push(all);
        }
        let mut built_in: Vec<(usize, &str)> =
            self.numbers.iter().map(|(name, number)| (*number, *name)).collect();
        built_in.sort_unstable();
        for (_, name) in built_in.into_iter().skip(self.kinds.len()) {
            self.kinds.push(Kind::Simple(Simple::built_in(name)?));
        }
        Some(self)
    }

    /// The number of a type, which it gets now if it has none yet.
    fn number(&mut self, name: &'static str) -> usize {
        let next = self.numbers.len();
        *self.numbers.entry(name).or_insert(next)
    }

    fn complex(&mut self, model: &'static str, attributes: &[&'static str]) -> Option<Kind> {
        let model = match model.strip_prefix("text=") {
            Some(kind) => Model::Text(self.number(kind)),
            None if model == "-" => Model::Parts(Vec::new()),
            None => Model::Parts(vec![self.particle(&mut model.split_whitespace().peekable())?]),
        };
        let mut read = Vec::new();
        for attribute in attributes {
            let (name, kind) = attribute.split_once('=')?;
            let (name, required) = name.strip_suffix('!').map_or((name, false), |name| (name, true));
            read.push(Attribute { name, required, kind: self.number(kind) });
        }
        Some(Kind::Complex { model, attributes: read })
    }

    fn particle(&mut self, words: &mut Peekable<SplitWhitespace<'static>>) -> Option<Particle> {
        let word = words.next()?;
        if word != "(" {
            let (name, rest) = word.split_once('=')?;
            let (kind, least, most) = often(rest);
            let (space, name) = qualified(name)?;
            return Some(Particle {
                least,
                most,
                part: Part::Element { space, name, kind: self.number(kind) },
            });
        }
        let (mut parts, mut choice) = (Vec::new(), false);
        while !words.peek()?.starts_with(')') {
            if *words.peek()? == "|" {
                choice = true;
                words.next();
            } else {
                parts.push(self.particle(words)?);
            }
        }
        let (end, least, most) = often(words.next()?);
        let part = if choice { Part::Choice(parts) } else { Part::Sequence(parts) };
        (end == ")").then_some(Particle { least, most, part })
    }
}

fn qualified(name: &'static str) -> Option<(Space, &'static str)> {
    match name.split_once(':')? {
        ("m", name) => Some((Space::Messages, name)),
        ("t", name) => Some((Space::Types, name)),
        _ => None,
    }
}

/// Takes the mark of repetition off a word.
fn often(word: &'static str) -> (&'static str, u32, u32) {
    let marks = [("?", 0, 1), ("*", 0, u32::MAX), ("+", 1, u32::MAX)];
    let mark = marks.iter().find_map(|(mark, least, most)| Some((word.strip_suffix(mark)?, *least, *most)));
    mark.unwrap_or((word, 1, 1))
}

/// A type with what its base has before it.
fn inherit(base: &Kind, own: Kind) -> Option<Kind> {
    match (base, own) {
        (
            Kind::Complex { model: Model::Parts(first), attributes: more },
            Kind::Complex { model: Model::Parts(parts), mut attributes },
        ) => {
            attributes.extend(more.iter().cloned());
            let parts = first.iter().cloned().chain(parts).collect();
            Some(Kind::Complex { model: Model::Parts(parts), attributes })
        }
        _ => None,
    }
}

impl Particle {
    /// True if it takes this element next.
    pub fn begins_with(&self, child: &Element) -> bool {
        match &self.part {
            Part::Element { space, name, .. } => *space == child.space && *name == child.name,
            Part::Choice(parts) => parts.iter().any(|part| part.begins_with(child)),
            Part::Sequence(parts) => {
                let mandatory = parts.iter().position(|part| !part.may_be_empty());
                let first = mandatory.map_or(parts.as_slice(), |last| &parts[..=last]);
                first.iter().any(|part| part.begins_with(child))
            }
        }
    }

    /// True if nothing need be there.
    pub fn may_be_empty(&self) -> bool {
        self.least == 0 || self.part.may_be_empty()
    }

    /// The elements that it may begin with.
    pub fn beginnings(&self, found: &mut Vec<String>) {
        match &self.part {
            Part::Element { space, name, .. } => {
                let prefix = if *space == Space::Messages { "m" } else { "t" };
                found.push(format!("'{prefix}:{name}'"));
            }
            Part::Choice(parts) => parts.iter().for_each(|part| part.beginnings(found)),
            Part::Sequence(parts) => {
                for part in parts {
                    part.beginnings(found);
                    if !part.may_be_empty() {
                        break;
                    }
                }
            }
        }
    }

    /// True if this element stands anywhere in it.
    pub fn mentions(&self, child: &Element) -> bool {
        match &self.part {
            Part::Element { space, name, .. } => *space == child.space && *name == child.name,
            Part::Choice(parts) | Part::Sequence(parts) => parts.iter().any(|part| part.mentions(child)),
        }
    }
}

impl Part {
    /// True if nothing need be there.
    pub fn may_be_empty(&self) -> bool {
        match self {
            Self::Element { .. } => false,
            Self::Sequence(parts) => parts.iter().all(Particle::may_be_empty),
            Self::Choice(parts) => parts.iter().any(Particle::may_be_empty),
        }
    }
}
