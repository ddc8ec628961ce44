//! Which characters may stand in XML 1.0, and how texts are brought to that in both directions.

use std::borrow::Cow;

use super::Malformed;

/// True for the characters of the production `Char` of XML 1.0.
pub fn is_legal(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r' | ' '..='\u{FFFD}' | '\u{10000}'..)
}

/// The text of an answer without its byte order mark and without illegal characters, encoded surrogates among them.
///
/// # Errors
/// [`Malformed::Encoding`] if it is not UTF-8.
pub fn admit(bytes: &[u8]) -> Result<Cow<'_, str>, Malformed> {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    match std::str::from_utf8(bytes) {
        Ok(text) if !is_suspicious(bytes) => Ok(Cow::Borrowed(text)),
        Ok(text) => Ok(Cow::Owned(text.chars().filter(|character| is_legal(*character)).collect())),
        Err(_) => admit_without_surrogates(bytes),
    }
}

/// Branch-free over the whole text, so that the compiler can use wide registers: nearly every answer is clean.
fn is_suspicious(bytes: &[u8]) -> bool {
    let found = bytes.iter().fold(0, |found, byte| {
        let control = *byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r');
        found | u8::from(control) | u8::from(*byte == 0xEF)
    });
    found != 0
}

fn admit_without_surrogates(bytes: &[u8]) -> Result<Cow<'_, str>, Malformed> {
    let mut kept = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&first, tail)) = rest.split_first() {
        if let [0xED, 0xA0..=0xBF, 0x80..=0xBF, after @ ..] = rest {
            rest = after;
        } else {
            kept.push(first);
            rest = tail;
        }
    }
    let text = String::from_utf8(kept).map_err(|_| Malformed::Encoding)?;
    Ok(Cow::Owned(text.chars().filter(|character| is_legal(*character)).collect()))
}

/// What a reference of the form `&name;` stands for; `None` if it stands for a character that is not legal.
///
/// # Errors
/// [`Malformed::Entity`] for an entity that XML does not define: no answer of Exchange declares its own.
pub fn resolve(name: &str) -> Result<Option<char>, Malformed> {
    let code = match name {
        "amp" => return Ok(Some('&')),
        "lt" => return Ok(Some('<')),
        "gt" => return Ok(Some('>')),
        "quot" => return Ok(Some('"')),
        "apos" => return Ok(Some('\'')),
        _ => name.strip_prefix('#').ok_or(Malformed::Entity)?,
    };
    let digits = code.strip_prefix(['x', 'X']);
    if digits.unwrap_or(code).starts_with('+') {
        return Err(Malformed::Entity);
    }
    let number = match digits {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => code.parse(),
    };
    let number = number.map_err(|_| Malformed::Entity)?;
    Ok(char::from_u32(number).filter(|character| is_legal(*character)))
}

/// The value of an attribute as it was meant: references resolved, illegal ones dropped.
pub fn unescape(raw: &str) -> Result<Cow<'_, str>, Malformed> {
    if !raw.contains('&') {
        return Ok(Cow::Borrowed(raw));
    }
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((before, after)) = rest.split_once('&') {
        let (name, tail) = after.split_once(';').ok_or(Malformed::Entity)?;
        text.push_str(before);
        text.extend(resolve(name)?);
        rest = tail;
    }
    text.push_str(rest);
    Ok(Cow::Owned(text))
}

/// Appends a text so that a parser reads the same text back, in elements and in attributes alike; characters that
/// XML cannot carry are left out.
pub fn escape_into(out: &mut Vec<u8>, text: &str) {
    let mut done = 0;
    for (at, character) in text.char_indices() {
        let replacement: &[u8] = match character {
            '&' => b"&amp;",
            '<' => b"&lt;",
            '>' => b"&gt;",
            '"' => b"&quot;",
            '\r' => b"&#13;",
            '\n' => b"&#10;",
            '\t' => b"&#9;",
            other if is_legal(other) => continue,
            _ => b"",
        };
        out.extend_from_slice(&text.as_bytes()[done..at]);
        out.extend_from_slice(replacement);
        done = at + character.len_utf8();
    }
    out.extend_from_slice(&text.as_bytes()[done..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_cleaned() {
        let cases: [(&[u8], Option<&str>); 8] = [
            (b"plain", Some("plain")),
            (b"\xEF\xBB\xBFwith mark", Some("with mark")),
            (b"a\x00b\x01c\x1Fd\te\r\n", Some("abcd\te\r\n")),
            ("a\u{FFFE}b\u{FFFF}c\u{FFFD}".as_bytes(), Some("abc\u{FFFD}")),
            (b"a\xED\xA0\x80b\xED\xBF\xBFc", Some("abc")),
            ("ü\u{1F600}".as_bytes(), Some("ü\u{1F600}")),
            (b"latin \xFC", None),
            (b"\xFF\xFEu\0t\0f\0", None),
        ];
        for (bytes, expected) in cases {
            assert_eq!(admit(bytes).ok().as_deref(), expected, "{bytes:?}");
        }
    }

    #[test]
    fn references_are_resolved_or_dropped() {
        for (raw, expected) in [
            ("a&amp;b&lt;&gt;&quot;&apos;", Some("a&b<>\"'")),
            ("&#65;&#x42;&#X43;", Some("ABC")),
            ("a&#0;b&#x1A;c&#xD800;d&#xFFFF;e&#x110000;", Some("abcde")),
            ("&nbsp;", None),
            ("&#+5;", None),
            ("&#;", None),
            ("a & b", None),
            ("&#99999999999;", None),
        ] {
            assert_eq!(unescape(raw).ok().as_deref(), expected, "{raw}");
        }
    }
}
