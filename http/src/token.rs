//! What somebody has to know to be answered.

use std::fmt;

use subtle::ConstantTimeEq;

/// 256 random bits, as text. It is made for one life of a server, and never written anywhere but to whoever started that.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// One that nobody has had before.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bits = [0; 32];
        getrandom::fill(&mut bits)?;
        Ok(Self(bits.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    /// It, for whoever is to know it: letters and digits.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// Whether it is this one. How long that takes says nothing of it.
    pub(crate) fn is(&self, said: &str) -> bool {
        self.0.as_bytes().ct_eq(said.as_bytes()).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}
