//! Unusual forms: paths that are refused unless a route accepts them.
//!
//! Backends disagree about each of them, so a route accepts one only if its service needs it. What
//! the disagreement could be used for is in [`readings`](super::readings).

/// A form of path that backends read differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnusualForm {
    /// `%25` before two hex digits: an escape of an escape, for a backend that decodes twice.
    DoubleEscape,
    /// `//`, or a segment that begins with its parameters: an empty name, which some backends drop.
    EmptySegment,
    /// `%2F`: a slash within a name, or between two names for a backend that decodes first.
    EncodedSlash,
    /// `;`: parameters (RFC 3986 §3.3), which some backends cut off.
    Parameters,
}

/// A set of unusual forms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnusualForms(u8);

impl UnusualForm {
    const ALL: [Self; 4] = [Self::DoubleEscape, Self::EmptySegment, Self::EncodedSlash, Self::Parameters];

    /// The form's name in `unusual_paths`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::DoubleEscape => "double_escape",
            Self::EmptySegment => "empty_segment",
            Self::EncodedSlash => "encoded_slash",
            Self::Parameters => "parameters",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl UnusualForms {
    /// Every form.
    pub const ALL: Self = Self(
        UnusualForm::DoubleEscape.bit()
            | UnusualForm::EmptySegment.bit()
            | UnusualForm::EncodedSlash.bit()
            | UnusualForm::Parameters.bit(),
    );
    /// No form.
    pub const NONE: Self = Self(0);

    /// Adds `form`.
    pub fn insert(&mut self, form: UnusualForm) {
        self.0 |= form.bit();
    }

    /// Whether `form` is one of them.
    #[must_use]
    pub fn contains(self, form: UnusualForm) -> bool {
        self.0 & form.bit() != 0
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The first form that is not one of `accepted`.
    #[must_use]
    pub fn first_not_in(self, accepted: Self) -> Option<UnusualForm> {
        UnusualForm::ALL.into_iter().find(|&form| self.contains(form) && !accepted.contains(form))
    }
}

impl FromIterator<UnusualForm> for UnusualForms {
    fn from_iter<I: IntoIterator<Item = UnusualForm>>(forms: I) -> Self {
        let mut set = Self::NONE;
        forms.into_iter().for_each(|form| set.insert(form));
        set
    }
}
