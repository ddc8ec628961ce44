//! Requests as trees, answers as text.

use quick_xml::{Reader, events::Event};

/// Nothing is nested deeper in any request.
const DEEPEST: usize = 64;
/// No request has more elements.
const MOST: usize = 200_000;

/// Which schema an element belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Space {
    Soap,
    Messages,
    Types,
    Addressing,
    Autodiscover,
    /// Requests of POX.
    Outlook,
    Other,
}

/// An element of a request.
#[derive(Clone, Debug)]
pub(crate) struct Element {
    pub space: Space,
    pub name: String,
    pub attributes: Vec<(String, String)>,
    pub children: Vec<Element>,
    pub text: String,
    /// Where it begins, in bytes.
    pub offset: usize,
}

/// Why a request cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NotXml {
    pub offset: usize,
    pub what: String,
}

impl Element {
    /// The first child of that name.
    pub fn child(&self, name: &str) -> Option<&Element> {
        self.children.iter().find(|child| child.name == name)
    }

    /// The first element at the end of a path of names.
    pub fn at(&self, path: &[&str]) -> Option<&Element> {
        path.iter().try_fold(self, |element, name| element.child(name))
    }

    /// The text of the first child of that name.
    pub fn text_of(&self, name: &str) -> Option<&str> {
        self.child(name).map(|child| child.text.trim())
    }

    /// An attribute's value.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Reads a document into a tree. Document types and entities of one's own are refused, as Exchange refuses them.
pub(crate) fn parse(document: &str) -> Result<Element, NotXml> {
    let text = document.trim_start_matches('\u{feff}');
    let skipped = document.len() - text.len();
    let mut reader = Reader::from_str(text);
    reader.config_mut().check_end_names = true;
    let mut open: Vec<Element> = Vec::new();
    let mut spaces: Vec<Vec<(String, Space)>> = Vec::new();
    let mut root = None;
    let mut count = 0;
    loop {
        let offset = skipped + reader.buffer_position() as usize;
        let fail = |what: &str| NotXml { offset, what: what.to_owned() };
        let event = reader.read_event().map_err(|error| fail(&error.to_string()))?;
        match event {
            Event::Start(start) => {
                count += 1;
                if open.len() >= DEEPEST || count > MOST {
                    return Err(fail("the document is too deep or too large"));
                }
                let element = begin(&start, &mut spaces, offset).map_err(|what| fail(&what))?;
                open.push(element);
            }
            Event::Empty(start) => {
                count += 1;
                if count > MOST {
                    return Err(fail("the document is too large"));
                }
                let element = begin(&start, &mut spaces, offset).map_err(|what| fail(&what))?;
                spaces.pop();
                close(element, &mut open, &mut root);
            }
            Event::End(_) => {
                spaces.pop();
                let element = open.pop().ok_or_else(|| fail("an end tag without a beginning"))?;
                close(element, &mut open, &mut root);
            }
            Event::Text(text) => {
                if let Some(element) = open.last_mut() {
                    element.text.push_str(&text);
                }
            }
            Event::CData(data) => {
                if let Some(element) = open.last_mut() {
                    element.text.push_str(&data);
                }
            }
            Event::GeneralRef(reference) => {
                let character = resolve(&reference).ok_or_else(|| fail("an entity that is not defined"))?;
                if let Some(element) = open.last_mut() {
                    element.text.push(character);
                }
            }
            Event::DocType(_) => return Err(fail("a document type is not allowed")),
            Event::Eof => break,
            Event::Decl(_) | Event::Comment(_) | Event::PI(_) => {}
        }
    }
    let offset = document.len();
    if !open.is_empty() {
        return Err(NotXml { offset, what: "the document ends too early".to_owned() });
    }
    root.ok_or(NotXml { offset, what: "the document is empty".to_owned() })
}

fn close(element: Element, open: &mut [Element], root: &mut Option<Element>) {
    match open.last_mut() {
        Some(parent) => parent.children.push(element),
        None => *root = Some(element),
    }
}

fn begin(
    start: &quick_xml::events::BytesStart<'_>,
    spaces: &mut Vec<Vec<(String, Space)>>,
    offset: usize,
) -> Result<Element, String> {
    let mut declared = Vec::new();
    let mut attributes = Vec::new();
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|error| error.to_string())?;
        let key = attribute.key.as_ref().to_owned();
        let value = unescape(&attribute.value).ok_or("an entity that is not defined")?;
        if key == "xmlns" {
            declared.push((String::new(), space_of(&value)));
        } else if let Some(prefix) = key.strip_prefix("xmlns:") {
            declared.push((prefix.to_owned(), space_of(&value)));
        } else {
            attributes.push((key, value));
        }
    }
    spaces.push(declared);
    let full = start.name().as_ref().to_owned();
    let (prefix, name) = full.split_once(':').unwrap_or(("", &full));
    let space = spaces
        .iter()
        .rev()
        .flatten()
        .find(|(known, _)| known == prefix)
        .map(|(_, space)| *space)
        .or_else(|| prefix.is_empty().then_some(Space::Other))
        .ok_or_else(|| format!("the prefix {prefix:?} is not declared"))?;
    Ok(Element {
        space,
        name: name.to_owned(),
        attributes,
        children: Vec::new(),
        text: String::new(),
        offset,
    })
}

fn space_of(uri: &str) -> Space {
    match uri {
        "http://schemas.xmlsoap.org/soap/envelope/" => Space::Soap,
        "http://schemas.microsoft.com/exchange/services/2006/messages" => Space::Messages,
        "http://schemas.microsoft.com/exchange/services/2006/types" => Space::Types,
        "http://www.w3.org/2005/08/addressing" => Space::Addressing,
        "http://schemas.microsoft.com/exchange/2010/Autodiscover" => Space::Autodiscover,
        "http://schemas.microsoft.com/exchange/autodiscover/outlook/requestschema/2006" => Space::Outlook,
        _ => Space::Other,
    }
}

fn resolve(name: &str) -> Option<char> {
    match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => {
            let code = name.strip_prefix('#')?;
            let number = match code.strip_prefix('x') {
                Some(digits) => u32::from_str_radix(digits, 16).ok()?,
                None => code.parse().ok()?,
            };
            // XML 1.0 allows no reference to a character that it does not allow.
            char::from_u32(number).filter(
                |character| matches!(character, '\t' | '\n' | '\r' | ' '..='\u{FFFD}' | '\u{10000}'..),
            )
        }
    }
}

fn unescape(raw: &str) -> Option<String> {
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((before, after)) = rest.split_once('&') {
        let (name, tail) = after.split_once(';')?;
        text.push_str(before);
        text.push(resolve(name)?);
        rest = tail;
    }
    text.push_str(rest);
    Some(text)
}

/// True if a text is a truth of the schema: `true` or `1`.
pub(crate) fn is_true(text: Option<&str>) -> bool {
    matches!(text.map(str::trim), Some("true" | "1"))
}

/// Adds a text as it may stand between tags or in an attribute. Nothing is dropped: what Exchange holds it also shows,
/// characters that XML does not allow as references.
pub(crate) fn escape(text: &str, out: &mut String) {
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\r' => out.push_str("&#xD;"),
            '\u{0}'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' => {
                out.push_str(&format!("&#x{:X};", u32::from(character)));
            }
            _ => out.push(character),
        }
    }
}

/// Adds `<name>text</name>`.
pub(crate) fn element(name: &str, text: &str, out: &mut String) {
    out.push('<');
    out.push_str(name);
    out.push('>');
    escape(text, out);
    out.push_str("</");
    out.push_str(name);
    out.push('>');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_do_not_matter_and_namespaces_do() {
        let document = r#"<?xml version="1.0"?><Envelope xmlns="http://schemas.xmlsoap.org/soap/envelope/">
            <Body><GetItem xmlns="http://schemas.microsoft.com/exchange/services/2006/messages" xmlns:x="http://schemas.microsoft.com/exchange/services/2006/types">
            <x:ItemId Id="a&amp;b&#x41;"/><Text>1 &lt; 2<![CDATA[ <&> ]]></Text></GetItem></Body></Envelope>"#;
        let root = parse(document).unwrap_or_else(|error| panic!("{error:?}"));
        assert_eq!((root.space, root.name.as_str()), (Space::Soap, "Envelope"));
        let item = root.at(&["Body", "GetItem"]).unwrap_or_else(|| panic!("no GetItem"));
        assert_eq!(item.space, Space::Messages);
        assert_eq!(item.child("ItemId").and_then(|id| id.attribute("Id")), Some("a&bA"));
        assert_eq!(item.child("ItemId").map(|id| id.space), Some(Space::Types));
        assert_eq!(item.child("Text").map(|text| text.text.as_str()), Some("1 < 2 <&> "));
    }

    #[test]
    fn hostile_documents_are_refused() {
        let deep = "<a>".repeat(100) + &"</a>".repeat(100);
        for document in [
            "",
            "<a>",
            "</a>",
            "<a></b>",
            "<a>&bomb;</a>",
            "<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>",
            "<p:a/>",
            "<a>&#x0;</a>",
            "<a b='&x;'/>",
            deep.as_str(),
        ] {
            assert!(parse(document).is_err(), "{document}");
        }
    }
}
