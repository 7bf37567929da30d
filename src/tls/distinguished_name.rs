//! Distinguished names as text (RFC 4514): `CN=Alice,OU=Sales,O=Example`.
//!
//! The text is unambiguous: different names have different texts, whatever their values contain.

use std::fmt::Write as _;

use x509_parser::asn1_rs::{Any, Oid, Tag, ToDer as _};
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// The attribute types that have a short name (RFC 4514 §3). Every other type is written as its
/// object identifier, so that no two programs read it differently.
const SHORT_NAMES: [(&str, &str); 9] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.6", "C"),
    ("2.5.4.9", "STREET"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
];

/// `name` as text: the last relative name first (RFC 4514 §2.1).
pub(super) fn text_of(name: &X509Name<'_>) -> String {
    let names: Vec<_> = name.iter_rdn().collect();
    let mut text = String::new();
    for (index, relative) in names.into_iter().rev().enumerate() {
        for (part, attribute) in relative.iter().enumerate() {
            match (index, part) {
                (0, 0) => {}
                (_, 0) => text.push(','),
                (_, _) => text.push('+'),
            }
            write_attribute(&mut text, attribute);
        }
    }
    text
}

fn write_attribute(text: &mut String, attribute: &AttributeTypeAndValue<'_>) {
    let id = attribute.attr_type();
    // RFC 4514 §2.4: a value whose type has no short name, or that is not a string, is written in
    // hexadecimal.
    match (short_name(id), string_of(attribute.attr_value())) {
        (Some(name), Some(value)) => {
            let _ = write!(text, "{name}=");
            write_escaped(text, value);
        }
        (Some(name), None) => write_hex(text, name, attribute.attr_value()),
        (None, _) => write_hex(text, &id.to_id_string(), attribute.attr_value()),
    }
}

fn short_name(id: &Oid<'_>) -> Option<&'static str> {
    let id = id.to_id_string();
    SHORT_NAMES.iter().find(|(known, _)| *known == id).map(|(_, name)| *name)
}

/// The string in a value of one of the types that certificates use today.
fn string_of<'a>(value: &Any<'a>) -> Option<&'a str> {
    match value.tag() {
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String | Tag::NumericString => {
            std::str::from_utf8(value.data).ok()
        }
        _ => None,
    }
}

fn write_hex(text: &mut String, name: &str, value: &Any<'_>) {
    let _ = write!(text, "{name}=#");
    // The encoding of a value that was decoded does not fail.
    for byte in value.to_der_vec().unwrap_or_default() {
        let _ = write!(text, "{byte:02x}");
    }
}

fn write_escaped(text: &mut String, value: &str) {
    let last = value.chars().count().saturating_sub(1);
    for (index, character) in value.chars().enumerate() {
        match character {
            '\0' => text.push_str("\\00"),
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => text.extend(['\\', character]),
            '#' | ' ' if index == 0 => text.extend(['\\', character]),
            ' ' if index == last => text.push_str("\\ "),
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair};
    use x509_parser::certificate::X509Certificate;
    use x509_parser::prelude::FromDer as _;

    use super::*;

    fn text(attributes: Vec<(DnType, DnValue)>) -> String {
        let mut name = DistinguishedName::new();
        for (kind, value) in attributes {
            name.push(kind, value);
        }
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = name;
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let (_, certificate) = X509Certificate::from_der(certificate.der()).unwrap();
        text_of(certificate.subject())
    }

    fn utf8(value: &str) -> DnValue {
        DnValue::Utf8String(value.to_owned())
    }

    /// RFC 4514 §2.1 to §2.4.
    #[test]
    fn the_last_relative_name_comes_first_and_types_have_short_names() {
        let uid = DnType::CustomDnType(vec![0, 9, 2342, 19_200_300, 100, 1, 1]);
        let email = DnType::CustomDnType(vec![1, 2, 840, 113_549, 1, 9, 1]);
        for (name, attributes, expected) in [
            ("none", vec![], ""),
            (
                "several",
                vec![
                    (DnType::CountryName, utf8("DE")),
                    (DnType::OrganizationName, utf8("Example")),
                    (DnType::OrganizationalUnitName, utf8("Sales")),
                    (DnType::CommonName, utf8("Alice")),
                ],
                "CN=Alice,OU=Sales,O=Example,C=DE",
            ),
            ("a user", vec![(uid, utf8("alice"))], "UID=alice"),
            ("a type without a short name", vec![(email, utf8("a@b"))], "1.2.840.113549.1.9.1=#0c03614062"),
            (
                "a printable string",
                vec![(DnType::CommonName, DnValue::PrintableString("Alice".try_into().unwrap()))],
                "CN=Alice",
            ),
            (
                "another kind of string",
                vec![(DnType::CommonName, DnValue::BmpString("A".try_into().unwrap()))],
                "CN=#1e020041",
            ),
            ("UTF-8", vec![(DnType::CommonName, utf8("Zoë"))], "CN=Zoë"),
        ] {
            assert_eq!(text(attributes), expected, "{name}");
        }
    }

    /// A value cannot pass for another attribute.
    #[test]
    fn what_has_a_meaning_in_the_text_is_escaped() {
        for (value, expected) in [
            ("Alice,O=Admins", "CN=Alice\\,O\\=Admins"),
            ("a+b", "CN=a\\+b"),
            ("\"<a>;\\", "CN=\\\"\\<a\\>\\;\\\\"),
            (" a b ", "CN=\\ a b\\ "),
            (" ", "CN=\\ "),
            ("#a#", "CN=\\#a#"),
            ("a\0b", "CN=a\\00b"),
        ] {
            assert_eq!(text(vec![(DnType::CommonName, utf8(value))]), expected.replace("\\=", "="), "{value:?}");
        }
    }
}
